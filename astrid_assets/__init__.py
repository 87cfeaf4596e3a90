"""astrid_assets: image differencing, candidates and training sets as Dagster assets."""

__version__ = "0.1.0"
