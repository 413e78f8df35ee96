#!/bin/sh
exec node till.js
