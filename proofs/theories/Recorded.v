(** The recorded runs: what the crate computed is, term by term, the program of [Exec], and the runs use every option
    of a problem. *)
From Coq Require Import List ZArith Bool Arith.
From SusOracle Require Import Exec Record.
From SusOracle.Generated Require Import Runs.
Import ListNotations.

(** Over every scalar, and for all values of the inputs, each recorded result has the value that the program
    computes. *)
Theorem runs_are_the_program :
  forall c, In c runs -> forall T (K : ops T) (x : inputs T), recorded c K x.
Proof.
  intros c Hc. apply check_sound. revert c Hc. apply Forall_forall. exact Runs.checked.
Qed.

(** ** Terms *)

(** An expression over the inputs, as the crate's operators spell it. *)
Inductive term :=
  | TZero | TOne | TLeast
  | TNumber (m e : Z)
  | TRead (t : input) (b h i d : nat)
  | TOpp (a : term) | TExp (a : term) | TLn (a : term) | TTanh (a : term) | TSqrt (a : term)
  | TAdd (a b : term) | TSub (a b : term) | TMul (a b : term) | TDiv (a b : term).

Definition term_ops : ops term :=
  {| o_zero := TZero; o_one := TOne; o_least := TLeast; o_num := TNumber; o_add := TAdd; o_sub := TSub;
     o_mul := TMul; o_div := TDiv; o_opp := TOpp; o_exp := TExp; o_ln := TLn; o_tanh := TTanh; o_sqrt := TSqrt |}.

(** [value term_ops TRead (c_table c) id] spells node [id] out. Two terms are equal only if the same operations are
    applied in the same order to the same inputs. *)
Theorem runs_are_the_program_term_by_term :
  forall c, In c runs -> recorded c term_ops TRead.
Proof. intros c Hc. now apply runs_are_the_program. Qed.

(** ** What the runs cover *)

Definition inside (n : nat) (l : list nat) : bool := existsb (Nat.eqb n) l.

Definition rows_of_case (c : case) : list row :=
  rows_of (seq 0 (c_batch c)) (seq 0 (heads c)) (seq 0 (c_queries c)).

Definition keys_seen (c : case) (r : row) : list nat :=
  filter (visible (c_mask c) (r_i r)) (seq 0 (c_keys c)).

Definition some_row (c : case) (f : row -> bool) : bool := existsb f (rows_of_case c).
Definition sees_nothing (c : case) : bool := some_row c (fun r => Nat.eqb (length (keys_seen c r)) 0).
Definition is_some {X} (o : option X) : bool := match o with Some _ => true | None => false end.
Definition unequal (m n : nat) : bool := negb (Nat.eqb m n).

(** Does some sample of the case have an entry of this kind?  [f] is given whether the entry is kept, and whether its
    weight was below [1 / lambda]. *)
Definition some_entry (c : case) (f : bool -> bool -> bool) : bool :=
  existsb (fun s => some_row c (fun r =>
    existsb (fun j => f (member (t_mask s) r j) (member (t_light s) r j)) (keys_seen c r))) (c_samples c).

Definition bias_along (b h i : bool) (c : case) : bool :=
  c_bias c && Bool.eqb (c_spread_b c) (negb b) && Bool.eqb (c_spread_h c) (negb h) && Bool.eqb (c_spread_i c) (negb i)
  && (1 <? c_queries c).

(** Does some row see keys on both sides of the end of a task of 64 keys? *)
Definition crosses (boundary : nat) (c : case) : bool :=
  some_row c (fun r => inside (boundary - 1) (keys_seen c r) && inside boundary (keys_seen c r)).

Definition options : list (case -> bool) := [
  (fun c => 1 <? c_batch c);
  (fun c => 1 <? c_group c);
  (fun c => 1 <? c_key_heads c);
  (fun c => (1 <? c_batch c) && (1 <? c_group c) && (1 <? c_key_heads c));
  (fun c => c_queries c <? c_keys c);
  (fun c => c_keys c <? c_queries c);
  (fun c => c_features c <? c_value_features c);
  (fun c => c_value_features c <? c_features c);
  (fun c => negb (is_some (c_scale c)));
  (fun c => match c_scale c with Some (m, _) => (0 <? m)%Z | None => false end);
  (fun c => match c_scale c with Some (m, _) => (m <? 0)%Z | None => false end);
  (fun c => is_some (c_softcap c) && some_row c (fun r => existsb (member (c_negatives c) r) (keys_seen c r)));
  (fun c => is_some (c_softcap c) && some_row c (fun r => existsb (fun j => negb (member (c_negatives c) r j)) (keys_seen c r)));
  (fun c => m_causal (c_mask c) && negb (m_top_left (c_mask c)) && unequal (c_queries c) (c_keys c));
  (fun c => m_causal (c_mask c) && m_top_left (c_mask c) && unequal (c_queries c) (c_keys c));
  (fun c => is_some (m_left (c_mask c)) && is_some (m_right (c_mask c)));
  (fun c => is_some (m_left (c_mask c)) && negb (is_some (m_right (c_mask c))));
  (fun c => 2 <? length (m_segment_queries (c_mask c)));
  c_dlse;
  c_sink;
  bias_along true true true;
  bias_along true true false;
  bias_along true false false;
  bias_along false true false;
  bias_along false false true;
  bias_along false false false;
  (fun c => sees_nothing c && c_sink c && (0 <? c_keys c));
  (fun c => sees_nothing c && negb (c_sink c) && (0 <? c_keys c));
  (fun c => Nat.eqb (c_batch c) 0);
  (fun c => Nat.eqb (c_queries c) 0);
  (fun c => Nat.eqb (c_keys c) 0 && c_sink c);
  (fun c => Nat.eqb (c_keys c) 0 && negb (c_sink c));
  crosses 64;
  crosses 128;
  (fun c => some_entry c (fun kept _ => negb kept));
  (fun c => some_entry c (fun kept light => kept && light));
  (fun c => some_entry c (fun kept light => kept && negb light));
  (fun c => existsb (fun s => some_row c (fun r => 1 <? length (at3 (t_mask s) (r_b r) (r_h r) (r_i r) []))) (c_samples c));
  (fun c => c_sink c && c_bias c && c_dlse c && is_some (c_softcap c) && is_some (m_left (c_mask c))
            && m_causal (c_mask c) && (2 <? length (m_segment_queries (c_mask c))) && (1 <? c_batch c)
            && (1 <? c_group c) && (1 <? c_key_heads c))
].

(** Each of the options above is used by some run. *)
Theorem runs_cover_the_options : forallb (fun option => existsb option runs) options = true.
Proof. vm_compute. reflexivity. Qed.
