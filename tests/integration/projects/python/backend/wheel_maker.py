"""The smallest build backend: one package into one wheel, with nothing that would have to be fetched."""

import os
import pathlib
import time
import zipfile

WHEEL = "till-1.0.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.4\nName: till\nVersion: 1.0.0\nLicense-Expression: Apache-2.0\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    at = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with zipfile.ZipFile(os.path.join(wheel_directory, WHEEL), "w") as wheel:
        for name, text in {
            "shop/__init__.py": "",
            "shop/till.py": pathlib.Path("shop/till.py").read_text(),
            "till-1.0.0.dist-info/METADATA": METADATA,
            "till-1.0.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "till-1.0.0.dist-info/RECORD": "",
        }.items():
            wheel.writestr(zipfile.ZipInfo(name, at), text)
    return WHEEL
