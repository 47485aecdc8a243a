(* Finite joint laws: a finite type of outcomes, each with a weight in a field, the weights adding up to 1.

   Nothing about a law is asked but this sum, where the order of the field is not used. The law of independent gates,
   with the gates' own probabilities, is one of them. *)

From mathcomp Require Import all_ssreflect ssralg.
From mathcomp Require Import ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory.
Local Open Scope ring_scope.

Section Mean.

Variables (F : fieldType) (Omega : finType) (P : Omega -> F).
Implicit Types X Y : Omega -> F.

Definition mean X : F := \sum_o P o * X o.

Definition cov X Y : F := mean (fun o => X o * Y o) - mean X * mean Y.
Definition var X : F := cov X X.

Lemma eq_mean X Y : X =1 Y -> mean X = mean Y.
Proof. by move=> e; apply: eq_bigr => o _; rewrite e. Qed.

Lemma mean0 : mean (fun _ => 0) = 0.
Proof. by rewrite /mean big1 // => o _; rewrite mulr0. Qed.

Lemma meanD X Y : mean (fun o => X o + Y o) = mean X + mean Y.
Proof. by rewrite /mean -big_split; apply: eq_bigr => o _; rewrite mulrDr. Qed.

Lemma meanZ a X : mean (fun o => a * X o) = a * mean X.
Proof. by rewrite /mean mulr_sumr; apply: eq_bigr => o _; rewrite mulrCA. Qed.

Lemma meanZr a X : mean (fun o => X o * a) = mean X * a.
Proof. by rewrite mulrC -meanZ; apply: eq_mean => o; rewrite mulrC. Qed.

Lemma mean_sum (I : Type) (l : seq I) (keep : pred I) (X : I -> Omega -> F) :
  mean (fun o => \sum_(i <- l | keep i) X i o) = \sum_(i <- l | keep i) mean (X i).
Proof.
rewrite /mean exchange_big /=; apply: eq_bigr => o _; by rewrite mulr_sumr.
Qed.

Lemma mean_const a : \sum_o P o = 1 -> mean (fun _ => a) = a.
Proof. by move=> total; rewrite /mean -mulr_suml total mul1r. Qed.

End Mean.

(* Independent gates: gate i is open with probability q i. *)
Section Independent.

Variables (F : fieldType) (I : finType) (q : I -> F).

Definition independent (m : {ffun I -> bool}) : F := \prod_i (if m i then q i else 1 - q i).

Lemma mean_product (f : I -> bool -> F) :
  mean independent (fun m => \prod_i f i (m i)) = \prod_i (q i * f i true + (1 - q i) * f i false).
Proof.
rewrite /mean /independent.
transitivity (\sum_(m : {ffun I -> bool}) \prod_i ((if m i then q i else 1 - q i) * f i (m i))).
  by apply: eq_bigr => m _; rewrite big_split.
rewrite -(bigA_distr_bigA (fun i b => (if b then q i else 1 - q i) * f i b)).
by apply: eq_bigr => i _; rewrite big_bool.
Qed.

Lemma independent_total : \sum_m independent m = 1.
Proof.
have := mean_product (fun _ _ => 1); rewrite /mean.
under eq_bigr do rewrite big1_eq mulr1; move=> ->.
by rewrite big1 // => i _; rewrite !mulr1 addrC subrK.
Qed.

(* The mean of a product over different gates is the product of the means. *)
Lemma mean_independent (s : seq I) (f : I -> bool -> F) : uniq s ->
  mean independent (fun m => \prod_(i <- s) f i (m i)) =
  \prod_(i <- s) (q i * f i true + (1 - q i) * f i false).
Proof.
move=> s_uniq; rewrite (big_uniq _ s_uniq) /= [RHS]big_mkcond.
transitivity (mean independent (fun m => \prod_i (if i \in s then f i (m i) else 1))).
  by apply: eq_mean => m; rewrite (big_uniq _ s_uniq) -big_mkcond.
rewrite (mean_product (fun i b => if i \in s then f i b else 1)).
by apply: eq_bigr => i _; case: (i \in s); rewrite // !mulr1 addrC subrK.
Qed.

Lemma marginal i : mean independent (fun m => (m i)%:R) = q i.
Proof.
have := @mean_independent [:: i] (fun _ b => b%:R) isT.
rewrite big_seq1 mulr0 mulr1 addr0 => <-; apply: eq_mean => m; by rewrite big_seq1.
Qed.

Lemma pair_marginal i j : i != j -> mean independent (fun m => (m i)%:R * (m j)%:R) = q i * q j.
Proof.
move=> i_neq; have := @mean_independent [:: i; j] (fun _ b => b%:R).
rewrite /= inE i_neq => /(_ isT); rewrite !big_cons !big_nil !mulr0 !mulr1 !addr0 => <-.
by apply: eq_mean => m; rewrite !big_cons big_nil mulr1.
Qed.

End Independent.
