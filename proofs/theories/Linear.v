(* Linear arithmetic over an ordered field, by naming the inequalities that are added.

   `lin (h1, h2, ...)` proves a goal `a <= b`, `a < b` or `False` if the sum of the hypotheses (`<=` or `<`) is the
   goal, up to the laws of a commutative ring. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum ssrint.
From mathcomp Require Export ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Lemma natr1 (R : ringType) n : n%:R + 1 = n.+1%:R :> R.
Proof. by rewrite mulrSr. Qed.

Section Facts.

Variable R : realFieldType.
Implicit Types a b c x y : R.

Lemma fact_le a b : a <= b -> 0 <= b - a. Proof. by rewrite subr_ge0. Qed.
Lemma fact_lt a b : a < b -> 0 < b - a. Proof. by rewrite subr_gt0. Qed.
Lemma plus_le_le x y : 0 <= x -> 0 <= y -> 0 <= x + y. Proof. exact: addr_ge0. Qed.
Lemma plus_lt_lt x y : 0 < x -> 0 < y -> 0 < x + y. Proof. exact: addr_gt0. Qed.
Lemma plus_lt_le x y : 0 < x -> 0 <= y -> 0 < x + y. Proof. exact: ltr_spaddl. Qed.
Lemma plus_le_lt x y : 0 <= x -> 0 < y -> 0 < x + y. Proof. exact: ltr_paddl. Qed.
Lemma goal_le a b c : 0 <= c -> b - a = c -> a <= b. Proof. by move=> c_ge0 e; rewrite -subr_ge0 e. Qed.
Lemma goal_le_of_lt a b c : 0 < c -> b - a = c -> a <= b. Proof. by move/ltW; apply: goal_le. Qed.
Lemma goal_lt a b c : 0 < c -> b - a = c -> a < b. Proof. by move=> c_gt0 e; rewrite -subr_gt0 e. Qed.
Lemma goal_false c : 0 < c -> 0 = c -> False. Proof. by move=> /[swap] <-; rewrite ltxx. Qed.

End Facts.

Ltac linear_sum facts :=
  lazymatch facts with
  | (?f, ?g) =>
    let p := linear_sum f in let q := linear_sum g in
    match goal with
    | _ => constr:(plus_le_le p q)
    | _ => constr:(plus_lt_lt p q)
    | _ => constr:(plus_lt_le p q)
    | _ => constr:(plus_le_lt p q)
    end
  | ?h => match goal with _ => constr:(fact_le h) | _ => constr:(fact_lt h) end
  end.

Tactic Notation "lin" constr(facts) :=
  let total := linear_sum facts in
  first [ apply: (goal_le total) | apply: (goal_le_of_lt total) | apply: (goal_lt total)
        | apply: (goal_false total) ]; ring.
