"""The services of an application: one configurable program that is every gateway, service and worker, and its users."""
