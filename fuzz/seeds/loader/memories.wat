(module (memory 1) (memory 2) (memory 3 4) (func (export "_start")))
