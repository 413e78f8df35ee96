"""What a release installs on a host: AppSpec, commands and files; and what two services must not share."""
