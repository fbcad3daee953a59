#sh: CORES=2-7
