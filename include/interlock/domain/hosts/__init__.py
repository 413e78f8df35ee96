"""What a release puts on a host: AppSpec, commands and files; and what two services may not share."""
