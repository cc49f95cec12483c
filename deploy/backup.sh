#!/bin/bash
# The two databases into FOLDER, whole or not at all: deploy/backup.sh FOLDER
# PostgreSQL's own variables say where they are: PGHOST, PGPORT, PGUSER, PGPASSFILE. MLFLOW_DB and PREFECT_DB name them.
set -eu
folder="${1:?usage: deploy/backup.sh FOLDER}"
mkdir -p "$folder"
for name in "${MLFLOW_DB:-mlflow}" "${PREFECT_DB:-prefect}"; do
  pg_dump --format=custom --no-owner --file="$folder/.$name.tmp" "$name"
  pg_restore --list "$folder/.$name.tmp" > /dev/null # readable to its end
  mv "$folder/.$name.tmp" "$folder/$name.dump"
done
