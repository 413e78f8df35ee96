#!/bin/sh
exec java -jar till.jar
