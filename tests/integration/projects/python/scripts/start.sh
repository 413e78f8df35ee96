#!/bin/sh
exec python3 -m pip install *.whl
