"""The studio: edits asked for over HTTP, made one after the other, and kept on disk.

`board` holds the jobs and their queue, `worker` makes them with the models of `shelf`, `store` keeps them; `orders` and
`clips` check what is asked for. `web` is the HTTP around it, and nothing outside of `web` knows of it.
"""
