;; ledger.py as a guest, in text so that a simulation needs no compiler. The names' ordinals:
;; fields 0 amount, 1 balance, 2 entries, 3 the row's balance, 4 the key's number.
(module
  (import "partita1" "get_i64" (func $get (param i32 i32) (result i64)))
  (import "partita1" "set_i64" (func $set (param i32 i32 i64)))
  (import "partita1" "record" (func $record (param i32 i64) (result i32)))
  (import "partita1" "create" (func $create (param i32) (result i32)))
  (import "partita1" "key" (func $key (param i32) (result i32)))
  (import "partita1" "put" (func $put (param i32) (result i32)))
  (import "partita1" "reject" (func $reject (param i32 i32 i32 i32)))
  (memory (export "memory") 256 256 (pagesize 1))
  (data (i32.const 0) "overdrawn")
  (data (i32.const 16)
    "abi 1\nentry move\nentry project\nrecord account\nview entry\n"
    "field args move amount i64\nfield record account balance i64\n"
    "field record account entries i64\nfield view entry balance i64\nkey entry number i64\n")
  (func (export "partita_describe") (result i64)
    (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const 200)))

  (func (export "move") (local $account i32) (local $balance i64)
    (local.set $account (call $record (i32.const 0) (i64.const 0)))
    (if (i32.eqz (local.get $account))
      (then (local.set $account (call $create (i32.const 0)))))
    (local.set $balance (i64.add
      (call $get (local.get $account) (i32.const 1))
      (call $get (i32.const 1) (i32.const 0))))
    (if (i64.lt_s (local.get $balance) (i64.const 0))
      (then
        (call $reject (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 0))
        (return)))
    (call $set (local.get $account) (i32.const 1) (local.get $balance))
    (call $set (local.get $account) (i32.const 2) (i64.rem_s
      (i64.add (call $get (local.get $account) (i32.const 2)) (i64.const 1))
      (i64.const 11))))

  (func (export "project") (local $key i32)
    (local.set $key (call $key (i32.const 0)))
    (call $set (local.get $key) (i32.const 4) (call $get (i32.const 3) (i32.const 2)))
    (call $set
      (call $put (local.get $key)) (i32.const 3) (call $get (i32.const 3) (i32.const 1)))))
