(* The decision by a word: how far the probability of keeping a weight is from q.

   - `keep32_bias`: over the 2^32 words, 0 <= P(keep) - q < 2^-32.
   - `keep64_rule`: `keep64` decides (x 2^32 + second) < q 2^64; `keep64_bias`: 0 <= P(keep) - q < 2^-64.
   - `weight_bias`: so 0 <= E W~ - W < 2^-32 / lambda for an entry with q = lambda W < 1. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From SusOracle Require Import Linear Programs Exact.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Words.

Variables (R : realFieldType) (M : nat).
Hypothesis M_gt0 : (0 < M)%N.
Implicit Types (q : R) (x : nat).

Let M_pos : (0 : R) < M%:R. Proof. by rewrite ltr0n. Qed.

(* `keep32`, with M for 2^32: q >= 1, or x < q M. *)
Definition keep_word q x : bool := Programs.keep_word (exact R) M%:R q x%:R.

Lemma keep_word_rule q x : keep_word q x = (1 <= q) || (x%:R < q * M%:R).
Proof. by []. Qed.

Definition keeping_words q : nat := #|[pred x : 'I_M | keep_word q x]|.

(* P(keep), for a uniform word. *)
Definition keep_chance q : R := (keeping_words q)%:R / M%:R.

(* The words that keep are 0, 1, ..., ceil(q M) - 1. *)
Lemma keeping_words_ceiling q : 0 <= q <= 1 ->
  q * M%:R <= (keeping_words q)%:R < q * M%:R + 1.
Proof.
move=> /andP[q_ge0 q_le1].
case: (leP 1 q) => [q_ge1 | q_lt1].
  have q1 : q = 1 by apply/eqP; rewrite eq_le q_le1.
  have -> : keeping_words q = M.
    by rewrite /keeping_words -[RHS]card_ord; apply: eq_card => x; rewrite inE keep_word_rule q_ge1.
  by rewrite q1 mul1r lexx ltr_addl ltr01.
have top : exists n, q * M%:R <= n%:R by exists M; rewrite ger_pmull.
case: (ex_minnP top) => n n_ok least.
have n_le : (n <= M)%N by apply: least; rewrite ger_pmull.
have rule x : (x%:R < q * M%:R) = (x < n)%N.
  apply/idP/idP => [x_lt | ].
    by rewrite -(ltr_nat R); apply: lt_le_trans x_lt n_ok.
  by apply: contraTT; rewrite -leNgt -leqNgt; apply: least.
have -> : keeping_words q = n.
  have widen_inj : injective (widen_ord n_le) by move=> a b [e]; apply: val_inj.
  rewrite /keeping_words -[RHS]card_ord -(card_imset _ widen_inj); apply: eq_card => x.
  rewrite inE keep_word_rule leNgt q_lt1 /= rule; apply/idP/imsetP => [x_lt | [y _ ->]]; last exact: (ltn_ord y).
  by exists (Ordinal x_lt) => //; apply: val_inj.
rewrite n_ok /=; case: n rule {n_ok least n_le} => [|n] rule.
  by apply: ltr_paddl; rewrite ?ltr01 // mulr_ge0 ?ler0n.
by rewrite -natr1 ltr_add2r rule ltnSn.
Qed.

Theorem keep_bias q : 0 <= q <= 1 -> 0 <= keep_chance q - q < M%:R^-1.
Proof.
move=> q_range; have /andP[low high] := keeping_words_ceiling q_range.
rewrite subr_ge0 ler_pdivl_mulr // low /= ltr_subl_addr ltr_pdivr_mulr // mulrDl.
by rewrite mulVf ?gt_eqF // addrC.
Qed.

(* A kept weight counts as W / q. *)
Theorem weight_bias (W l q : R) : 0 < W -> 0 < l -> q = l * W -> q < 1 ->
  0 <= W / q * keep_chance q - W < M%:R^-1 / l.
Proof.
move=> W_gt0 l_gt0 q_eq small; have q_gt0 : 0 < q by rewrite q_eq mulr_gt0.
have /andP[low high] : 0 <= keep_chance q - q < M%:R^-1 by apply: keep_bias; rewrite ltW //= ltW.
have -> : W / q * keep_chance q - W = (keep_chance q - q) / l.
  by rewrite q_eq; field; rewrite !gt_eqF.
by rewrite divr_ge0 ?(ltW l_gt0) //= ltr_pmul2r ?invr_gt0.
Qed.

(* `keep64`, with the integer part of q M: the second word decides its fraction. *)
Definition keep_two_words q (floor x second : nat) : bool :=
  Programs.keep_two_words (exact R) M%:R q floor%:R x%:R second%:R.

Theorem keep_two_words_rule q floor x second :
  q < 1 -> floor%:R <= q * M%:R < floor.+1%:R -> (second < M)%N ->
  keep_two_words q floor x second = ((x * M + second)%:R < q * (M * M)%:R).
Proof.
move=> q_lt1 /andP[floor_le floor_gt] second_lt; rewrite /keep_two_words /Programs.keep_two_words /= leNgt q_lt1 /= ltr_nat eqr_nat.
have second_M : second%:R < M%:R :> R by rewrite ltr_nat.
rewrite natrD !natrM mulrA; case: ltngtP => [x_lt | x_gt | ->].
- have step : (x.+1%:R * M%:R : R) <= floor%:R * M%:R by rewrite ler_pmul2r // ler_nat.
  have top : floor%:R * M%:R <= q * M%:R * M%:R by rewrite ler_pmul2r.
  by apply/esym; rewrite -natr1 in step; lin (second_M, (step, top)).
- have step : (floor.+1%:R * M%:R : R) <= x%:R * M%:R by rewrite ler_pmul2r // ler_nat.
  have top : q * M%:R * M%:R <= floor.+1%:R * M%:R by rewrite ler_pmul2r // ltW.
  have second_ge0 : (0 : R) <= second%:R by rewrite ler0n.
  by apply/esym/negbTE; rewrite -leNgt; lin (step, (top, second_ge0)).
by rewrite mulrBl ltr_subr_addr addrC.
Qed.

End Words.

(* Words of 32 bits. *)
Section Bits.

Variable R : realFieldType.

Definition words32 : nat := 2 ^ 32.
Lemma words32_gt0 : (0 < words32)%N. Proof. by rewrite expn_gt0. Qed.

Definition keep32 : R -> nat -> bool := keep_word words32.
Definition keep64 : R -> nat -> nat -> nat -> bool := keep_two_words words32.

Theorem keep32_bias (q : R) : 0 <= q <= 1 ->
  0 <= #|[pred x : 'I_words32 | keep32 q x]|%:R / words32%:R - q < (2 ^+ 32)^-1.
Proof.
move=> q_range; have := keep_bias words32_gt0 q_range.
by rewrite /keep_chance /keeping_words natrX.
Qed.

Theorem weight32_bias (W l q : R) : 0 < W -> 0 < l -> q = l * W -> q < 1 ->
  0 <= W / q * (#|[pred x : 'I_words32 | keep32 q x]|%:R / words32%:R) - W < (2 ^+ 32)^-1 / l.
Proof.
move=> W_gt0 l_gt0 q_eq small; have := weight_bias words32_gt0 W_gt0 l_gt0 q_eq small.
by rewrite /keep_chance /keeping_words natrX.
Qed.

(* Two words are one of 64 bits, x 2^32 + second, and the rule is that of a grid of 2^64. *)
Theorem keep64_rule (q : R) (floor x second : nat) :
  0 <= q < 1 -> floor%:R <= q * words32%:R < floor.+1%:R -> (second < words32)%N ->
  keep64 q floor x second = keep_word (words32 * words32) q (x * words32 + second).
Proof.
move=> /andP[_ q_lt1] floor_ok second_lt; rewrite keep_word_rule leNgt q_lt1.
exact: keep_two_words_rule.
Qed.

Theorem keep64_bias (q : R) : 0 <= q <= 1 ->
  0 <= keep_chance (words32 * words32) q - q < (2 ^+ 64)^-1.
Proof.
move=> q_range; have M_gt0 : (0 < words32 * words32)%N by rewrite muln_gt0 words32_gt0.
by have := keep_bias M_gt0 q_range; rewrite natrM /words32 natrX -exprD.
Qed.

End Bits.
