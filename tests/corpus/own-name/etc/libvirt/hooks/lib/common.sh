announce() { logger "${0##*/}: $*"; }
