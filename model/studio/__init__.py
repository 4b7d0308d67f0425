"""The studio: edits asked for over HTTP, made one after the other, and kept on disk.

`job_queue` holds the jobs, `worker` makes them with the models of `loaded_models`, `store` keeps their files;
`edit_request` and `clips` check what is asked for. `web` is the HTTP around it; nothing outside of `web` knows of HTTP.
"""
