"""A small shop that knows nothing of chaosgym: Python's standard library, psycopg2, log lines in plain text.

GET /products      from the cache, else from the database
POST /orders       a row in the database
GET /health        200 as long as the program runs
"""

import json
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

DATABASE = os.environ.get("DATABASE", "host=database dbname=shop user=shop password=shop")
CACHE = (os.environ.get("CACHE", "cache"), 6379)
WAIT = "-c statement_timeout=700"
log = logging.getLogger("shop")


def cached(*command: str) -> str | None:
    """What Redis answers to a command; None for nothing."""
    words = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in command)
    with socket.create_connection(CACHE, timeout=0.5) as connection, connection.makefile("rb") as reader:
        connection.sendall(b"*%d\r\n%s" % (len(command), words))
        head = reader.readline().decode().strip()
        if head.startswith("-"):
            raise OSError(f"cache said: {head[1:]}")
        return reader.read(int(head[1:])).decode() if head[0] == "$" and head != "$-1" else None


def query(statement: str, *values: object) -> list[tuple]:
    """Rows of a statement on a connection of its own."""
    connection = psycopg2.connect(DATABASE, connect_timeout=2, options=WAIT)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    finally:
        connection.close()


def products() -> list[str]:
    """Their names, kept in the cache for a second."""
    known = cached("GET", "products")
    if known is None:
        known = json.dumps([name for (name,) in query("select name from products order by id")])
        cached("SET", "products", known, "EX", "1")
    return json.loads(known)


def order(body: bytes) -> int:
    """The number of a new order."""
    wanted = json.loads(body or b"{}").get("product") or random.randint(1, 3)
    ((number,),) = query("insert into orders (product) values (%s) returning id", wanted)
    return number


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Products, or how we are."""
        self.serve(lambda: {"status": "ok"} if self.path == "/health" else {"products": products()})

    def do_POST(self) -> None:
        """An order."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.serve(lambda: {"order": order(body)})

    def serve(self, work: Callable[[], dict]) -> None:
        """Answer with what `work` gives, or with 500."""
        began = time.monotonic()
        try:
            status, answer = 200, work()
        except (psycopg2.Error, OSError) as error:
            log.error("%s %s failed: %s", self.command, self.path, str(error).strip().replace("\n", " "))
            status, answer = 500, {"error": "try again"}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        log.info("%s %s %d %.1f ms", self.command, self.path, status, 1000 * (time.monotonic() - began))

    def log_message(self, *_: object) -> None:
        """We log ourselves."""


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for attempt in range(60):
        try:
            query("create table if not exists products (id serial primary key, name text); "
                  "create table if not exists orders (id serial primary key, product integer, at timestamptz default now()); "
                  "insert into products (name) select unnest(array['tea', 'cup', 'pot']) where not exists (select from products); "
                  "select 1")
            break
        except psycopg2.Error as error:
            log.warning("waiting for the database (%d): %s", attempt, str(error).strip())
            time.sleep(1)
    ThreadingHTTPServer.daemon_threads = True
    log.info("listening on port 8000")
    ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()


main()
