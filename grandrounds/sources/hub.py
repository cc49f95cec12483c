"""A dataset of the Hugging Face hub at a pinned commit: tables and pictures only, no code, no pickles."""

from pathlib import Path

from grandrounds.errors import UserError

NEVER = ("*.py", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.bin", "*.ckpt", "*.npy", "*.npz")


def fetch(repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    """The folder that holds the files of a commit that match one of the patterns; from the cache when it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        anywhere = [form for pattern in patterns for form in (pattern, f"**/{pattern}")]
        folder = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=anywhere, ignore_patterns=list(NEVER)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"curate: {repository} at {revision[:12]} cannot be fetched ({' '.join(str(error).split())[:200]}); "
            "check the name, the commit and the network, or give the folder as `path`"
        ) from None
    return Path(folder)
