(* The systematic sampler leaves the mean of the gradients as it is.

   Every row has a word of its own, uniform over 0, ..., M - 1, and its draw is that of `systematic` with u = k / M.
   `systematic_unbiased` says that the mean of `sus_backward` over all words is the dense gradient, when the running
   sums of each row are multiples of 1 / M. `systematic_off_grid` says what is left when they are not: P(kept) is
   strictly within 1 / M of q. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum ssrint.
From SusOracle Require Import Linear Exec Law Programs Exact Unbiased Systematic.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Words.

Variables (R : realFieldType) (I : finType) (M : nat).
Hypothesis M_gt0 : (0 < M)%N.

(* Independent uniform words, one for each index. *)
Definition uniform_words (_ : {ffun I -> 'I_M}) : R := \prod_(i : I) M%:R^-1.

Lemma words_product (f : I -> 'I_M -> R) :
  mean uniform_words (fun k => \prod_i f i (k i)) = \prod_i \sum_(k < M) M%:R^-1 * f i k.
Proof.
rewrite (bigA_distr_bigA (fun i k => M%:R^-1 * f i k)); apply: eq_bigr => k _.
by rewrite /uniform_words -big_split.
Qed.

Lemma word_total : \sum_(k < M) M%:R^-1 = 1 :> R.
Proof. by rewrite sumr_const card_ord -(mulr_natr M%:R^-1) mulVf // pnatr_eq0 -lt0n. Qed.

Lemma words_total : \sum_k uniform_words k = 1.
Proof.
have := words_product (fun _ _ => 1); rewrite /mean.
under eq_bigr do rewrite big1_eq mulr1; move=> ->.
by rewrite big1 // => i _; under eq_bigr do rewrite mulr1; rewrite word_total.
Qed.

Lemma mean_word (i : I) (X : 'I_M -> R) :
  mean uniform_words (fun k => X (k i)) = \sum_(k < M) M%:R^-1 * X k.
Proof.
transitivity (mean uniform_words (fun k => \prod_j (if j == i then X (k j) else 1))).
  by apply: eq_mean => k; rewrite -big_mkcond big_pred1_eq.
rewrite (words_product (fun j k => if j == i then X k else 1)) (bigD1 i) //= eqxx [X in _ * X]big1 ?mulr1 // => j /negbTE ->.
by under eq_bigr do rewrite mulr1; rewrite word_total.
Qed.

End Words.

Section Systematic.

Variables (R : realFieldType) (least : R) (num : BinNums.Z -> BinNums.Z -> R) (exp ln tanh sqrt : R -> R).
Notation K := (field_ops least num exp ln tanh sqrt).
Variables (p : problem R) (c : choices) (s : saved R) (lambda most : row -> R) (M : nat).
Hypothesis M_gt0 : (0 < M)%N.

Let W := w_w (dense_weights K p c s).

(* The keys that a row sees, ascending, and their probabilities: what `draw_row` hands to `systematic`. *)
Definition keys_of (r : row) : seq nat := [seq j <- iota 0 (p_keys p) | p_visible p (r_i r) j].
Definition row_probabilities (r : row) : seq R := [seq keep_probability (exact R) (lambda r) (W r j) | j <- keys_of r].

Lemma keys_of_visible r : keys_of r = visible_keys p r.
Proof.
have seq_iota x n : iota x n = List.seq x n by elim: n x => //= n IH x; rewrite IH.
by rewrite /keys_of /visible_keys seq_iota.
Qed.

Definition row_index : finType := [finType of 'I_(p_batch p) * 'I_(p_heads p) * 'I_(p_queries p)].
Definition row_at (r : row) : option row_index :=
  if insub (r_b r) is Some b then if insub (r_h r) is Some h then if insub (r_i r) is Some i
  then Some (b, h, i) else None else None else None.

(* Which entries the words of all rows keep. *)
Definition systematic_mask (words : {ffun row_index -> 'I_M}) (r : row) (j : nat) : bool :=
  p_visible p (r_i r) j &&
  if row_at r is Some n
  then index j (keys_of r) \in systematic (exact R) (row_probabilities r) ((words n)%:R / M%:R) (most r)
  else false.

Hypothesis lambda_gt0 : forall r, 0 < lambda r.
Hypothesis W_ge0 : forall r j, inside p r j -> p_visible p (r_i r) j -> 0 <= W r j.
Hypothesis enough : forall r, inside_row p r -> \sum_(x <- row_probabilities r) x <= most r.

Let chance r j := mean (@uniform_words R row_index M) (fun words => (systematic_mask words r j)%:R).

Lemma row_probabilities_legal r : probabilities (row_probabilities r).
Proof. by apply/allP => x /mapP[j _ ->]; apply: keep_probability_range. Qed.

Lemma chance_draws r j : inside p r j -> p_visible p (r_i r) j ->
  chance r j = (draws_that_keep (row_probabilities r) (most r) M (index j (keys_of r)))%:R / M%:R.
Proof.
move=> [[b_lt [h_lt i_lt]] j_lt] seen; set n : row_index := (Ordinal b_lt, Ordinal h_lt, Ordinal i_lt).
have at_r : row_at r = Some n by rewrite /row_at !insubT.
transitivity (\sum_(k < M) M%:R^-1 * (index j (keys_of r) \in
    systematic (exact R) (row_probabilities r) (k%:R / M%:R) (most r))%:R : R).
  rewrite -(mean_word M_gt0 n (fun k => (index j (keys_of r) \in
    systematic (exact R) (row_probabilities r) (k%:R / M%:R) (most r))%:R)).
  by apply: eq_mean => words; rewrite /systematic_mask seen at_r.
rewrite -mulr_sumr mulrC /draws_that_keep -sum1_card natr_sum [in RHS]big_mkcond; congr (_ / _).
by apply: eq_bigr => k _; rewrite inE; case: (_ \in _).
Qed.

Lemma entry_in r j : inside p r j -> p_visible p (r_i r) j ->
  (index j (keys_of r) < size (row_probabilities r))%N /\
  nth 0 (row_probabilities r) (index j (keys_of r)) = keep_probability (exact R) (lambda r) (W r j).
Proof.
move=> [_ j_lt] seen; have j_in : j \in keys_of r by rewrite mem_filter seen mem_iota.
by rewrite size_map index_mem j_in (nth_map 0%N) ?index_mem // nth_index.
Qed.

(* Off the grid, too, P(kept) is strictly within 1 / M of q. *)
Theorem systematic_off_grid r j : inside p r j -> p_visible p (r_i r) j ->
  `|chance r j - keep_probability (exact R) (lambda r) (W r j)| < M%:R^-1.
Proof.
move=> r_in seen; have [j_lt <-] := entry_in r_in seen; rewrite chance_draws //.
have /andP[low high] := systematic_near (row_probabilities_legal r) (enough (proj1 r_in)) M_gt0 j_lt.
have M_pos : (0 : R) < M%:R by rewrite ltr0n.
rewrite ltr_norml; apply/andP; split.
  rewrite ltr_subr_addr -(ltr_pmul2r M_pos) mulrDl mulNr mulVf ?gt_eqF // mulfVK ?gt_eqF //; lin low.
rewrite ltr_subl_addr -(ltr_pmul2r M_pos) mulrDl mulVf ?gt_eqF // mulfVK ?gt_eqF //; lin high.
Qed.

Hypothesis on_grid : forall r, inside_row p r -> forall i, (i <= size (row_probabilities r))%N ->
  exists n : nat, running_sum (row_probabilities r) i * M%:R = n%:R.

Theorem systematic_unbiased :
  let P := @uniform_words R row_index M in
  let pass words := sus_backward K p c s (systematic_mask words) (light least num exp ln tanh sqrt p c s lambda) lambda in
  let expected := backward K p c s in
  (forall r d, inside_row p r -> mean P (fun o => g_dq (pass o) r d) = g_dq expected r d) /\
  (forall b kh j d, (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
     mean P (fun o => g_dk (pass o) b kh j d) = g_dk expected b kh j d) /\
  (forall b kh j e, (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
     mean P (fun o => g_dv (pass o) b kh j e) = g_dv expected b kh j e) /\
  (forall at_ j, inside_bias p at_ -> (j < p_keys p)%N ->
     mean P (fun o => g_dbias (pass o) at_ j) = g_dbias expected at_ j) /\
  (forall h, mean P (fun o => g_dsink (pass o) h) = g_dsink expected h).
Proof.
move=> P; apply: sus_backward_unbiased => //.
- exact: words_total.
- by move=> words; rewrite /P /uniform_words; apply: prodr_ge0 => i _; rewrite invr_ge0 ler0n.
- move=> r j r_in seen; rewrite -[LHS]/(chance r j) chance_draws //.
  have [j_lt <-] := entry_in r_in seen.
  rewrite (systematic_grid (row_probabilities_legal r) (enough (proj1 r_in)) M_gt0 (on_grid (proj1 r_in)) j_lt).
  by rewrite mulfK // pnatr_eq0 -lt0n.
- by move=> words r j _ /andP[].
Qed.

End Systematic.
