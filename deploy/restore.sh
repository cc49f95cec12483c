#!/bin/bash
# The two databases out of FOLDER, each in one transaction: deploy/restore.sh FOLDER
# Into databases that are there and may hold an older state; stop the servers first. Variables as in backup.sh.
set -eu
folder="${1:?usage: deploy/restore.sh FOLDER}"
for name in "${MLFLOW_DB:-mlflow}" "${PREFECT_DB:-prefect}"; do
  test -s "$folder/$name.dump" || { echo "error: $folder/$name.dump: missing; give the folder that backup.sh wrote" >&2; exit 1; }
done
for name in "${MLFLOW_DB:-mlflow}" "${PREFECT_DB:-prefect}"; do
  pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error --dbname="$name" "$folder/$name.dump"
done
