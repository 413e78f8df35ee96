#!/bin/sh
exec mono till.exe
