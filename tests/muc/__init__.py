"""The room machine of engine/muc, driven directly."""
