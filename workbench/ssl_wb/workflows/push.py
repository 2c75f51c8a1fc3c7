"""Upload an exported folder to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from ssl_wb.errors import UsageError

__all__ = ["check_repository", "push_folder"]

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_repository(repository: str) -> None:
    """Check the form of a repository's name, before the work starts.

    Raises:
        UsageError: it is not OWNER/NAME.
    """
    if not REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise UsageError(
            f"--push {repository}: expected OWNER/NAME", hint="as --push my-lab/matpac-base, without hf://"
        )


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder as one commit; the repository is made where there is none.

    Args:
        folder: an exported folder.
        repository: OWNER/NAME on the hub.
        public: make a new repository public; it is private unless said. One that is there stays as it is.

    Returns:
        The address of the commit.

    Raises:
        UsageError: the hub cannot be reached, or does not allow it; the folder stays.
    """
    check_repository(repository)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    kept = f"{folder} is written and complete"
    try:
        client = HfApi()
        client.create_repo(repository, private=not public, exist_ok=True)
        message = "Upload an encoder of ssl-wb"
        commit = client.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"--push {repository}: the hub refuses it ({type(error).__name__}: {reason}); {kept}",
            hint="HF_TOKEN, or `hf auth login`, has to allow writing to that owner",
        ) from error
    except Exception as error:
        if not _no_connection(error):
            raise
        raise UsageError(
            f"--push {repository}: the hub cannot be reached ({type(error).__name__}); {kept}",
            hint="check the network and HF_HUB_OFFLINE, then upload the folder: "
            f"hf upload {repository} {folder}{'' if public else ' --private'}",
        ) from error
    return str(commit.commit_url)


def _no_connection(error: Exception) -> bool:
    """Whether an error is one of the network, of whichever HTTP client this huggingface_hub has."""
    client = type(error).__module__.partition(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or client in ("httpx", "httpx2", "httpcore", "requests")
