(* Turns the programs that the theorems are about into OCaml, with Zarith's integers in the place of Coq's. *)

From Coq Require Import ExtrOcamlBasic ExtrOcamlZBigInt.
From SusOracle Require Import Programs Exec Philox.

(* The field names of records are the extraction's own to choose; constructors by position are not. *)
Definition make_arithmetic := Arithmetic.
Definition make_edge := @Edge.
Definition make_ops := Ops.
Definition make_problem := Problem.
Definition make_weights := @Weights.

Extraction Language OCaml.
Extraction "programs.ml"
  make_arithmetic make_edge make_ops make_problem make_weights
  keep_probability Programs.kept_weight expected_count water_level systematic
  keep_word keep_two_words derivatives_of path_uses_a_gate_twice
  Exec.backward_from_weights g_dq g_dk g_dv g_dbias
  Philox.word Philox.stream_of.
