#!/bin/sh
ip route replace "$1" table "$2"
