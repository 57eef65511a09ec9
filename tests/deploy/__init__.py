"""What operators get: metrics, alerts, dashboards, and how to run the server."""
