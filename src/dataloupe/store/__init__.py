"""Where units of work are kept: atomic, immutable, checksummed; a folder, or any URL of fsspec."""

from dataloupe.store._local import LocalStore as LocalStore
from dataloupe.store._remote import RemoteStore as RemoteStore
from dataloupe.store._remote import open_store as open_store
from dataloupe.store._store import FileStore as FileStore
