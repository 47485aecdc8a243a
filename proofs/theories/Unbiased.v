(* The sampled backward pass is unbiased, under any finite joint law of the masks.

   - `linear_unbiased`: what is linear in the weights has, at W~ = W m / q, the mean that it has at W.
   - `backward_from_weights_unbiased`: dq, dk, dv and dbias of the whole pass, over any field.
   - `sus_backward_unbiased`: the pass of the crate, where a kept weight counts as max(W, 1 / lambda) and
     q = min(1, lambda W), over any ordered field.

   Of the law only P(kept) = q is asked, entry by entry, and that q = 0 only where W = 0: entries may depend on each
   other in any way, and one mask serves all gradients. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From mathcomp Require Import ring.
From SusOracle Require Import Exec Law Programs Exact.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* A field with any functions in the place of exp, ln, tanh, sqrt and any numbers in that of the constants. *)
Definition field_ops (F : fieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F) : ops F :=
  @Ops F 0 1 least num (fun a b => a + b) (fun a b => a - b) (fun a b => a * b) (fun a b => a / b) (fun a => - a)
      exp ln tanh sqrt.

Section General.

Variables (F : fieldType) (Omega : finType) (P : Omega -> F).
Hypothesis total : \sum_o P o = 1.

Variables (I : Type) (W q : I -> F) (m : Omega -> I -> bool).

(* W~ = W m / q *)
Definition sampled (o : Omega) (i : I) : F := if m o i then W i / q i else 0.

Definition right_law (i : I) : Prop := mean P (fun o => (m o i)%:R) = q i /\ (q i = 0 -> W i = 0).

Lemma sampled_mean i : right_law i -> mean P (sampled^~ i) = W i.
Proof.
move=> [marginal zero]; transitivity (W i / q i * mean P (fun o => (m o i)%:R)).
  by rewrite -meanZ; apply: eq_mean => o; rewrite /sampled; case: (m o i); rewrite ?mulr1 ?mulr0.
rewrite marginal; case: (eqVneq (q i) 0) => [q0 | q_neq0]; last by rewrite mulfVK.
by rewrite zero // !mul0r.
Qed.

(* A function of the weights at the entries D that takes linear combinations to linear combinations. *)
Definition linear_on (D : I -> Prop) (f : (I -> F) -> F) : Prop :=
  forall (J : finType) (c : J -> F) (X : J -> I -> F) (Y : I -> F),
    (forall i, D i -> Y i = \sum_j c j * X j i) -> f Y = \sum_j c j * f (X j).

Theorem linear_unbiased (D : I -> Prop) (f : (I -> F) -> F) :
  linear_on D f -> (forall i, D i -> right_law i) -> mean P (fun o => f (sampled o)) = f W.
Proof.
move=> f_linear right; rewrite (f_linear _ P sampled W) // => i /right right_i.
by rewrite -[LHS](sampled_mean right_i).
Qed.

(* Linear forms, and sums of them over any list, are linear; so are their multiples. *)
Lemma linear_term (D : I -> Prop) i a : D i -> linear_on D (fun w => w i * a).
Proof.
move=> D_i J c X Y combination; rewrite combination // mulr_suml.
by apply: eq_bigr => j _; rewrite mulrA.
Qed.

Lemma linear_sum (D : I -> Prop) (N : Type) (l : seq N) (f : N -> (I -> F) -> F) :
  (forall n, linear_on D (f n)) -> linear_on D (fun w => \sum_(n <- l) f n w).
Proof.
move=> f_linear J c X Y combination; under eq_bigr do rewrite (f_linear _ J c X Y combination).
by rewrite exchange_big; apply: eq_bigr => j _; rewrite mulr_sumr.
Qed.

(* An added constant, as dsink, is not touched by the mask. *)
Corollary affine_unbiased (D : I -> Prop) (f : (I -> F) -> F) a :
  linear_on D f -> (forall i, D i -> right_law i) -> mean P (fun o => a + f (sampled o)) = a + f W.
Proof. by move=> f_linear right; rewrite meanD mean_const // (linear_unbiased f_linear). Qed.

End General.

Section Attention.

Variables (F : fieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Variable p : problem F.

(* The entries of the problem: query head h < Hq of sequence b < B, query i < Nq, key j < Nk. *)
Definition inside_row (r : row) : Prop :=
  (r_b r < p_batch p)%N /\ (r_h r < p_heads p)%N /\ (r_i r < p_queries p)%N.
Definition inside (r : row) (j : nat) : Prop := inside_row r /\ (j < p_keys p)%N.

Lemma sum_big (N : Type) (l : seq N) (f : N -> F) : Exec.sum K l f = \sum_(n <- l) f n.
Proof.
rewrite /Exec.sum /= -[RHS]add0r; move: {1 2}(0 : F) => s.
elim: l s => [|n l IH] s /=; first by rewrite big_nil addr0.
by rewrite IH big_cons addrA.
Qed.

Lemma sum_kept (N : Type) (l : seq N) (kept : pred N) (f : N -> F) :
  Exec.sum K (List.filter kept l) f = \sum_(n <- l | kept n) f n.
Proof.
rewrite sum_big; elim: l => [|n l IH] /=; first by rewrite !big_nil.
by rewrite [RHS]big_cons; case: (kept n); rewrite ?big_cons IH.
Qed.

Lemma in_seq x n j : List.In j (List.seq x n) -> (x <= j < x + n)%N.
Proof.
elim: n x => [|n IH] x //= [<- | /IH]; first by rewrite leqnn addnS ltnS leq_addr.
by rewrite addSnnS => /andP[/ltnW -> ->].
Qed.

Lemma in_rows bs hs qs r : List.In r (rows_of bs hs qs) ->
  [/\ List.In (r_b r) bs, List.In (r_h r) hs & List.In (r_i r) qs].
Proof.
rewrite /rows_of => /List.in_flat_map [b [b_in /List.in_flat_map [h [h_in /List.in_map_iff [i [<- i_in]]]]]].
by split.
Qed.

Lemma inside_reading b kh r : (b < p_batch p)%N -> (kh < p_key_heads p)%N ->
  List.In r (rows_reading p b kh) -> inside_row r.
Proof.
move=> b_lt kh_lt /in_rows [[b_eq | //] /in_seq /andP[_ h_lt] /in_seq /andP[_ i_lt]].
split; [by rewrite -b_eq | split=> //].
by apply: leq_trans h_lt _; rewrite -[Nat.mul _ _]/(muln _ _) addnC -mulSn leq_mul2r kh_lt orbT.
Qed.

(* A row of the bias: its coordinates along the axes where the bias has length 1 do not matter. *)
Definition inside_bias (r : row) : Prop :=
  (p_spread_b p || (r_b r < p_batch p)%N) /\ (p_spread_h p || (r_h r < p_heads p)%N) /\
  (p_spread_i p || (r_i r < p_queries p)%N).

Lemma inside_reading_bias at_ r : inside_bias at_ ->
  List.In r (rows_reading_bias p at_) -> inside_row r.
Proof.
have axis (spread : bool) x n y : spread || (x < n)%N ->
    List.In y (if spread then List.seq O n else [:: x]) -> (y < n)%N.
  by case: spread => [_ /in_seq/andP[] | /= x_lt [<- | []]].
move=> [b_ok [h_ok i_ok]] /in_rows [b_in h_in i_in].
by split; [apply: axis b_ok b_in | split; [apply: axis h_ok h_in | apply: axis i_ok i_in]].
Qed.

Section Law.

Variables (Omega : finType) (P : Omega -> F).
Variables (w : weights F) (delta_ : row -> F).
Variables (q : row -> nat -> F) (m : Omega -> row -> nat -> bool).

(* P(kept) = q; q = 0 only where W = 0; and an entry that the mask of attention hides is never kept. *)
Hypothesis marginal : forall r j, inside r j -> w_kept w r j -> mean P (fun o => (m o r j)%:R) = q r j.
Hypothesis positive : forall r j, inside r j -> w_kept w r j -> q r j = 0 -> w_w w r j = 0.
Hypothesis hidden : forall o r j, inside r j -> m o r j -> w_kept w r j.

(* W~ = W m / q, as the entries that are kept. *)
Definition gated (o : Omega) : weights F := Weights (m o) (fun r j => w_w w r j / q r j) (w_slope w).

Lemma kept_mean (N : Type) (l : seq N) (at_row : N -> row) (at_key : N -> nat) (f g : N -> F) :
  (forall n, List.In n l -> inside (at_row n) (at_key n)) ->
  (forall n, f n = w_w w (at_row n) (at_key n) * g n) ->
  mean P (fun o => Exec.sum K (List.filter (fun n => m o (at_row n) (at_key n)) l)
                     (fun n => w_w w (at_row n) (at_key n) / q (at_row n) (at_key n) * g n)) =
  Exec.sum K (List.filter (fun n => w_kept w (at_row n) (at_key n)) l) f.
Proof.
move=> all_inside f_eq; rewrite sum_kept.
transitivity (mean P (fun o => \sum_(n <- l) sampled (fun n => w_w w (at_row n) (at_key n))
    (fun n => q (at_row n) (at_key n)) (fun o n => m o (at_row n) (at_key n)) o n * g n)).
  apply: eq_mean => o; rewrite sum_kept big_mkcond; apply: eq_bigr => n _; rewrite /sampled.
  by case: (m o _ _); rewrite ?mul0r.
rewrite mean_sum [RHS]big_mkcond; elim: l all_inside => [|n l IH] all_inside; first by rewrite !big_nil.
rewrite !big_cons IH => [|n' n'_in]; last by apply: all_inside; right.
congr (_ + _); have n_inside := all_inside n (or_introl erefl).
rewrite meanZr; case: ifP => [kept | not_kept].
  rewrite f_eq sampled_mean //; split; [exact: marginal | exact: positive].
rewrite /sampled; transitivity (mean P (fun _ => 0) * g n); last by rewrite mean0 mul0r.
congr (_ * _); apply: eq_mean => o; case: ifP => // drawn.
by rewrite (hidden n_inside drawn) in not_kept.
Qed.

Let pass o := backward_from_weights K p (gated o) delta_.
Let dense := backward_from_weights K p w delta_.

Theorem dq_unbiased r d : inside_row r -> mean P (fun o => g_dq (pass o) r d) = g_dq dense r d.
Proof.
move=> r_in; pose g j := t_of K p delta_ r j * w_slope w r j * k_of p r j d.
apply: etrans (kept_mean (l := List.seq 0 (p_keys p)) (at_row := fun _ => r) (at_key := id) (g := g) _ _).
- by apply: eq_mean => o; rewrite /pass /= /dq !sum_kept; apply: eq_bigr => j _ /=; rewrite !mulrA.
- by move=> j /in_seq.
- by move=> j; rewrite !mulrA.
Qed.

Theorem dk_unbiased b kh j d : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  mean P (fun o => g_dk (pass o) b kh j d) = g_dk dense b kh j d.
Proof.
move=> b_lt kh_lt j_lt; pose g r := t_of K p delta_ r j * w_slope w r j * q_of p r d.
apply: etrans (kept_mean (l := rows_reading p b kh) (at_row := id) (at_key := fun _ => j) (g := g) _ _).
- by apply: eq_mean => o; rewrite /pass /= /dk !sum_kept; apply: eq_bigr => r _ /=; rewrite !mulrA.
- by move=> r r_in; split=> //; apply: inside_reading r_in.
- by move=> r; rewrite !mulrA.
Qed.

Theorem dv_unbiased b kh j e : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  mean P (fun o => g_dv (pass o) b kh j e) = g_dv dense b kh j e.
Proof.
move=> b_lt kh_lt j_lt.
apply: (kept_mean (l := rows_reading p b kh) (at_row := id) (at_key := fun _ => j) (g := fun r => g_of p r e)) => //.
by move=> r r_in; split=> //; apply: inside_reading r_in.
Qed.

Theorem dbias_unbiased at_ j : inside_bias at_ -> (j < p_keys p)%N ->
  mean P (fun o => g_dbias (pass o) at_ j) = g_dbias dense at_ j.
Proof.
move=> at_in j_lt.
apply: (kept_mean (l := rows_reading_bias p at_) (at_row := id) (at_key := fun _ => j)
                  (g := fun r => t_of K p delta_ r j)) => //.
by move=> r r_in; split=> //; apply: inside_reading_bias r_in.
Qed.

(* All gradients of the pass. *)
Theorem backward_from_weights_unbiased :
  (forall r d, inside_row r -> mean P (fun o => g_dq (pass o) r d) = g_dq dense r d) /\
  (forall b kh j d, (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
     mean P (fun o => g_dk (pass o) b kh j d) = g_dk dense b kh j d) /\
  (forall b kh j e, (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
     mean P (fun o => g_dv (pass o) b kh j e) = g_dv dense b kh j e) /\
  (forall at_ j, inside_bias at_ -> (j < p_keys p)%N ->
     mean P (fun o => g_dbias (pass o) at_ j) = g_dbias dense at_ j).
Proof.
split; first exact: dq_unbiased. split; first exact: dk_unbiased.
by split; [exact: dv_unbiased | exact: dbias_unbiased].
Qed.

End Law.

End Attention.

(* The crate's own pass: q = min(1, lambda W), and a kept weight counts as max(W, 1 / lambda). *)
Section Crate.

Variables (F : realFieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Variables (p : problem F) (c : choices) (s : saved F) (lambda : row -> F).

Let dense := dense_weights K p c s.
Let W := w_w dense.
Let visible r j := p_visible p (r_i r) j.

(* The result of the comparison in `kept_weight`. *)
Definition light (r : row) (j : nat) : bool := W r j < 1 / lambda r.

Variables (Omega : finType) (P : Omega -> F) (m : Omega -> row -> nat -> bool).
Hypothesis total : \sum_o P o = 1.
Hypothesis chances : forall o, 0 <= P o.
Hypothesis lambda_gt0 : forall r, 0 < lambda r.
Hypothesis W_ge0 : forall r j, inside p r j -> visible r j -> 0 <= W r j.
Hypothesis marginal : forall r j, inside p r j -> visible r j ->
  mean P (fun o => (m o r j)%:R) = keep_probability (exact F) (lambda r) (W r j).
Hypothesis hidden : forall o r j, inside p r j -> m o r j -> visible r j.

Let q r j := keep_probability (exact F) (lambda r) (W r j).
Let pass o := sus_backward K p c s (m o) light lambda.

Lemma keep_probability_eq0 (l w : F) : 0 < l -> 0 <= w -> keep_probability (exact F) l w = 0 -> w = 0.
Proof.
move=> l_gt0; rewrite le0r /keep_probability /= => /orP[/eqP // | w_gt0]; rewrite leNgt w_gt0 /=.
case: ifP => _ /eqP; last by rewrite oner_eq0.
by rewrite mulf_eq0 !gt_eqF.
Qed.

(* A kept weight is W / q. *)
Lemma kept_weight_eq (l w : F) : 0 < l -> 0 < w ->
  Exec.kept_weight K (w < 1 / l) l w = w / keep_probability (exact F) l w.
Proof.
move=> l_gt0 w_gt0; rewrite /Exec.kept_weight /keep_probability /= leNgt w_gt0 /=.
rewrite ltr_pdivl_mulr // mulrC; case: ifP => _; last by rewrite divr1.
by rewrite invfM mulrCA divff ?gt_eqF // mulr1 div1r.
Qed.

Lemma kept_positive o r j : P o != 0 -> inside p r j -> m o r j -> 0 < W r j.
Proof.
move=> chance r_in drawn; have seen := hidden r_in drawn.
rewrite lt_def W_ge0 // andbT; apply: contraNneq chance => W0.
have := marginal r_in seen; rewrite W0 /keep_probability /= lexx /mean => /eqP.
rewrite psumr_eq0 => [/allP/(_ o)|o' _]; last by rewrite mulr_ge0 ?ler0n.
by rewrite mem_index_enum drawn mulr1 => /(_ isT).
Qed.

(* One draw: the crate's pass over its kept entries is the pass at W~ = W m / q. *)
Lemma same_sum o (N : Type) (l : seq N) (at_row : N -> row) (at_key : N -> nat) (f : N -> F -> F) :
  P o != 0 -> (forall n, List.In n l -> inside p (at_row n) (at_key n)) ->
  Exec.sum K (List.filter (fun n => m o (at_row n) (at_key n)) l)
    (fun n => f n (Exec.kept_weight K (light (at_row n) (at_key n)) (lambda (at_row n)) (W (at_row n) (at_key n)))) =
  Exec.sum K (List.filter (fun n => m o (at_row n) (at_key n)) l)
    (fun n => f n (W (at_row n) (at_key n) / q (at_row n) (at_key n))).
Proof.
move=> chance all_inside; rewrite !sum_kept; elim: l all_inside => [|n l IH] all_inside; first by rewrite !big_nil.
rewrite !big_cons IH => [|n' n'_in]; last by apply: all_inside; right.
case: ifP => // drawn; congr (f n _ + _).
apply: kept_weight_eq => //; apply: kept_positive drawn => //; apply: all_inside; by left.
Qed.

Lemma eq_mean_support (X Y : Omega -> F) : (forall o, P o != 0 -> X o = Y o) -> mean P X = mean P Y.
Proof.
move=> e; apply: eq_bigr => o _; have [-> | /e -> //] := eqVneq (P o) 0; by rewrite !mul0r.
Qed.

Lemma right_positive r j : inside p r j -> visible r j -> q r j = 0 -> w_w dense r j = 0.
Proof. by move=> r_in seen; apply: keep_probability_eq0 => //; apply: W_ge0. Qed.

Theorem sus_backward_unbiased :
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
move=> expected; set delta_ := delta K p s.
have [dq_ok [dk_ok [dv_ok dbias_ok]]] := backward_from_weights_unbiased least num exp ln tanh sqrt
  (w := dense) (q := q) delta_ marginal right_positive hidden.
split=> [r d r_in|]; [|split=> [b kh j d b_lt kh_lt j_lt|]; [|split=> [b kh j e b_lt kh_lt j_lt|]; [|split=> [at_ j at_in j_lt|h]]]].
- rewrite -[RHS]dq_ok //; apply: eq_mean_support => o chance.
  apply: (same_sum (at_row := fun _ => r) (at_key := id)
    (fun j w => w * t_of K p delta_ r j * slope K p c r j * k_of p r j d) chance).
  by move=> j /in_seq.
- rewrite -[RHS]dk_ok //; apply: eq_mean_support => o chance.
  apply: (same_sum (at_row := id) (at_key := fun _ => j)
    (fun r w => w * t_of K p delta_ r j * slope K p c r j * q_of p r d) chance).
  by move=> r r_in; split=> //; apply: inside_reading r_in.
- rewrite -[RHS]dv_ok //; apply: eq_mean_support => o chance.
  apply: (same_sum (at_row := id) (at_key := fun _ => j) (fun r w => w * g_of p r e) chance).
  by move=> r r_in; split=> //; apply: inside_reading r_in.
- rewrite -[RHS]dbias_ok //; apply: eq_mean_support => o chance.
  apply: (same_sum (at_row := id) (at_key := fun _ => j) (fun r w => w * t_of K p delta_ r j) chance).
  by move=> r r_in; split=> //; apply: inside_reading_bias r_in.
- by rewrite mean_const.
Qed.

End Crate.

(* The paper's sampler: independent gates, one for each entry of the problem. *)
Section Bernoulli.

Variables (F : realFieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Variables (p : problem F) (c : choices) (s : saved F) (lambda : row -> F).

Definition entry : finType := [finType of 'I_(p_batch p) * 'I_(p_heads p) * 'I_(p_queries p) * 'I_(p_keys p)].

Definition row_of (n : entry) : row := let: (b, h, i, _) := n in Row b h i.

Definition entry_at (r : row) (j : nat) : option entry :=
  if insub (r_b r) is Some b then if insub (r_h r) is Some h then
  if insub (r_i r) is Some i then if insub j is Some j then Some (b, h, i, j)
  else None else None else None else None.

Lemma entry_atP r j : inside p r j -> exists2 n : entry, entry_at r j = Some n & row_of n = r /\ n.2 = j :> nat.
Proof.
move: r => [b h i] [[/= b_lt [h_lt i_lt]] j_lt].
by exists (Ordinal b_lt, Ordinal h_lt, Ordinal i_lt, Ordinal j_lt); rewrite /entry_at //= !insubT.
Qed.

Let W := w_w (dense_weights K p c s).
Definition entry_probability (n : entry) : F :=
  keep_probability (exact F) (lambda (row_of n)) (W (row_of n) n.2).

(* The entries whose gate is open, among those that the mask of attention shows. *)
Definition bernoulli (open : {ffun entry -> bool}) (r : row) (j : nat) : bool :=
  p_visible p (r_i r) j && oapp open false (entry_at r j).

Hypothesis lambda_gt0 : forall r, 0 < lambda r.
Hypothesis W_ge0 : forall r j, inside p r j -> p_visible p (r_i r) j -> 0 <= W r j.

Lemma keep_probability_range (l w : F) : 0 < l -> 0 <= keep_probability (exact F) l w <= 1.
Proof.
move=> l_gt0; rewrite /keep_probability /=; case: (leP w 0) => [_ | w_gt0]; first by rewrite lexx ler01.
by case: ifP => [/ltW -> | _]; rewrite ?ler01 ?lexx // mulr_ge0 // ltW.
Qed.

Theorem bernoulli_unbiased :
  let P := independent entry_probability in
  let pass open := sus_backward K p c s (bernoulli open) (light least num exp ln tanh sqrt p c s lambda) lambda in
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
- exact: independent_total.
- move=> open; rewrite /P /independent; apply: prodr_ge0 => n _.
  have /andP[low high] := keep_probability_range (W (row_of n) n.2) (lambda_gt0 (row_of n)).
  by case: ifP => _; rewrite ?subr_ge0.
- move=> r j r_in seen; have [n at_n [r_eq j_eq]] := entry_atP r_in.
  transitivity (mean P (fun open => (open n)%:R)).
    by apply: eq_mean => open; rewrite /bernoulli seen at_n.
  by rewrite marginal /entry_probability r_eq j_eq.
- by move=> open r j _ /andP[].
Qed.

End Bernoulli.
