"""The one thing that pyproject.toml cannot say: wheels hold the engine, which cffi compiles.

An editable install (./dev setup) leaves it to ``python -m dataplane.build``: parallel, incremental.
"""

import sys

from setuptools import setup

wanted = {"bdist_wheel", "build", "build_ext"} & set(sys.argv)
setup(cffi_modules=["dataplane/build.py:ffibuilder"] if wanted else [])
