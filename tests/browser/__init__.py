"""The studio's page in a real browser, over a real server with the demo."""
