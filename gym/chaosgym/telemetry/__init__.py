"""Telemetry: what the application under test emits, kept under OpenTelemetry's names and units.

`schema` has the tables, `store` gathers and writes them, `otlp` receives them from instrumented
programs, `process`, `postgres`, `redis` sample what programs do not report, `logs` reads log files.
"""
