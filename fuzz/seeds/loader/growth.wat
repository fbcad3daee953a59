(module (memory (export "memory") 1) (table $t 1 funcref)
  (func (export "_start")
    (loop $m (br_if $m (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (loop $t (br_if $t (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))))
