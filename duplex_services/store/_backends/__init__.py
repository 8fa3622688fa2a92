"""One module for each kind of store, loaded when a URL asks for it.

Each has ``open_backend(url: StoreURL) -> AbstractAsyncContextManager[Backend]``; entering it makes what the backend
needs, with its tasks, and need not reach the store.
"""
