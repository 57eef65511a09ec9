"""The native API, one module per resource; `routes` shows the whole URL map on one screen."""
