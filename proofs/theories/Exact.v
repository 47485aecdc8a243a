(* The operations of an ordered field, as the programs take them. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From SusOracle Require Import Programs.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* Any additions and multiplications, say rounded ones, with the order of the field. *)
Definition ordered (R : realFieldType) (add sub mul div : R -> R -> R) : arithmetic R :=
  Arithmetic 0 1 add sub mul div (fun a b => a <= b) (fun a b => a < b) (fun a b => a == b).

Definition exact (R : realFieldType) : arithmetic R :=
  ordered (fun a b => a + b) (fun a b => a - b) (fun a b => a * b) (fun a b => a / b).

Section Counting.

Variable R : realFieldType.

Lemma count_as_number_exact (test : pred R) xs :
  count_as_number (exact R) test xs = (count test xs)%:R.
Proof.
rewrite /count_as_number -[RHS]add0r /= -[LHS]/(foldl _ 0 _).
elim: xs 0 => [|x xs IH] n /=; first by rewrite addr0.
by rewrite IH natrD addrA; case: (test x); rewrite ?addr0.
Qed.

End Counting.
