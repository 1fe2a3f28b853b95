"""The durable steps of a restore, by name: where a run may be cut, and what the journal tells of it."""

from __future__ import annotations

# The durable steps, in order. Each name is in the journal (fsynced) before its step begins.
PULL, PIN, TAG_BACKUP = "pull", "pin-target", "tag-backup"
CREATE, CONNECT, SPARE = "create-new", "connect-new", "create-spare"
RENAME_OLD, RENAME_NEW, HOLD_OLD = "rename-old", "rename-new", "hold-old"
STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD = "stop-old", "start-new", "await-new", "remove-old"
STOP_NEW, PARK_NEW, RETURN_OLD = "undo:stop-new", "undo:park-new", "undo:return-old"
RELEASE_OLD, START_OLD, REMOVE_NEW = "undo:release-old", "undo:start-old", "undo:remove-new"
DISCARD, DONE = "discard", "done"
PREPARE_STEPS = (PULL, PIN, TAG_BACKUP, CREATE, CONNECT, SPARE)
SWAP_STEPS = (RENAME_OLD, RENAME_NEW, HOLD_OLD, STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD, DONE)
UNDO_STEPS = (STOP_NEW, PARK_NEW, RETURN_OLD, RELEASE_OLD, START_OLD, REMOVE_NEW, DONE)
STEPS = tuple(dict.fromkeys(PREPARE_STEPS + SWAP_STEPS + UNDO_STEPS + (DISCARD,)))  # all there are
