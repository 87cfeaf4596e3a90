"""``python -m astrid_assets.cli`` is `astrid`."""

from astrid_assets.cli import main

if __name__ == "__main__":
    main()
