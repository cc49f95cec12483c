#!/bin/bash
# PostgreSQL's image runs this once, on an empty volume: a user and a database each for MLflow and Prefect.
set -eu
for name in mlflow prefect; do
  variable="${name^^}_DB_PASSWORD"
  psql -v ON_ERROR_STOP=1 -v name="$name" -v secret="${!variable}" -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
CREATE USER :"name" PASSWORD :'secret';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
