# For the Astro CLI and other clusters; `make up` does not use it. The base image installs packages.txt and
# requirements.txt by itself, and copies the project to /usr/local/airflow.
FROM astrocrpublic.azurecr.io/runtime:3.3-8

ENV PYTHONPATH=/usr/local/airflow/include \
    AIRFLOW__CORE__AUTH_MANAGER=interlock.console.auth.manager.InterlockFabAuthManager
