"""The servers that the other tests stand on are real: what is put in comes out."""

import pytest

pytestmark = pytest.mark.slow


def test_postgres_gives_a_fresh_database_each_time(postgres) -> None:
    import psycopg2

    first, second = postgres("postgresql"), postgres("postgresql")
    assert first != second
    with psycopg2.connect(first) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (n integer)")
        cursor.execute("INSERT INTO kept VALUES (7)")
    assert postgres.sql("SELECT n FROM kept", first.rsplit("/", 1)[1]) == "7"
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'", second.rsplit("/", 1)[1]) == "0"


def test_s3_keeps_what_is_put(s3) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="fixtures/a", Body=b"bytes")
    assert s3.keys("fixtures/") == ["fixtures/a"]
    assert s3.client().get_object(Bucket=s3.bucket, Key="fixtures/a")["Body"].read() == b"bytes"
