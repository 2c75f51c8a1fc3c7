"""``python -m ssl_wb``."""

from __future__ import annotations

from ssl_wb.cli.main import main

if __name__ == "__main__":
    main()
