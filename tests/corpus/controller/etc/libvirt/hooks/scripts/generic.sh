#!/bin/sh
logger "generic $*"
