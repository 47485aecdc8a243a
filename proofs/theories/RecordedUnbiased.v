(* The recorded backward pass from given weights is unbiased under sampling.

   The run of `backward_from_weights` was recorded with a variable for each weight that the mask of attention shows.
   With W m / q in the place of W, for any masks m of a finite joint law with P(kept) = q and any q that is 0 only
   where W is 0, the mean of every recorded gradient is the recorded gradient at W. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From SusOracle Require Import Exec Record Recorded Law Programs Exact Unbiased.
From SusOracle.Generated Require Import Runs.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Core.

Variables (F : fieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Variable c : case.
Hypothesis c_recorded : List.In c runs.
Variable x : inputs F.

Variables (Omega : finType) (P : Omega -> F).
Variables (q : row -> nat -> F) (m : Omega -> row -> nat -> bool).

(* The given weights. *)
Definition weight (r : row) (j : nat) : F := x IW (r_b r) (r_h r) (r_i r) j.

(* The row and the key are of the problem, and the row sees the key. *)
Definition seen (r : row) (j : nat) : Prop :=
  inside (problem_of c K x) r j /\ visible (c_mask c) (r_i r) j.

Hypothesis marginal : forall r j, seen r j -> mean P (fun o => (m o r j)%:R) = q r j.
Hypothesis positive : forall r j, seen r j -> q r j = 0 -> weight r j = 0.

(* The same inputs, with the weights W m / q. *)
Definition drawn (o : Omega) : inputs F := fun t =>
  if t is IW then fun b h i j => if m o (Row b h i) j then x IW b h i j / q (Row b h i) j else 0 else x t.

Let p := problem_of c K x.
Let kept (o : Omega) (r : row) (j : nat) : bool := visible (c_mask c) (r_i r) j && m o r j.

Lemma drawn_sum o (N : Type) (l : seq N) (at_row : N -> row) (at_key : N -> nat) (f : N -> F -> F) :
  (forall n, f n 0 = 0) ->
  Exec.sum K (List.filter (fun n => visible (c_mask c) (r_i (at_row n)) (at_key n)) l)
    (fun n => f n (w_w (free_weights c (drawn o)) (at_row n) (at_key n))) =
  Exec.sum K (List.filter (fun n => kept o (at_row n) (at_key n)) l)
    (fun n => f n (weight (at_row n) (at_key n) / q (at_row n) (at_key n))).
Proof.
move=> f0; rewrite !sum_kept big_mkcond [RHS]big_mkcond; apply: eq_bigr => n _; rewrite /kept /=.
by case: visible => //; case: (at_row n) => b h i /=; case: (m o _ _).
Qed.

Let pass o := backward_from_weights K p (gated (free_weights c x) q kept o) (free_delta x).
Let value_at (y : inputs F) := value K y (c_table c).

Lemma drawn_core o :
  let g := backward_from_weights K (problem_of c K (drawn o)) (free_weights c (drawn o)) (free_delta (drawn o)) in
  (forall r d, g_dq g r d = g_dq (pass o) r d) /\
  (forall b kh j d, g_dk g b kh j d = g_dk (pass o) b kh j d) /\
  (forall b kh j e, g_dv g b kh j e = g_dv (pass o) b kh j e) /\
  (forall r j, g_dbias g r j = g_dbias (pass o) r j).
Proof.
split=> [r d|]; [|split=> [b kh j d|]; [|split=> [b kh j e|r j]]].
- apply: (@drawn_sum o _ _ (fun _ => r) id
    (fun j w => w * t_of K p (free_delta x) r j * w_slope (free_weights c x) r j * k_of p r j d)).
  by move=> n; rewrite !mul0r.
- apply: (@drawn_sum o _ _ id (fun _ => j)
    (fun r w => w * t_of K p (free_delta x) r j * w_slope (free_weights c x) r j * q_of p r d)).
  by move=> n; rewrite !mul0r.
- by apply: (@drawn_sum o _ _ id (fun _ => j) (fun r w => w * g_of p r e)) => n; rewrite !mul0r.
- apply: (@drawn_sum o _ _ id (fun _ => j) (fun r w => w * t_of K p (free_delta x) r j)).
  by move=> n; rewrite !mul0r.
Qed.

(* A recorded tensor has, in the mean over the masks, the values that it has at the given weights. *)
Definition unbiased (n1 n2 n3 n4 : nat) (t : dims4) : Prop :=
  forall b h i d, (b < n1)%N -> (h < n2)%N -> (i < n3)%N -> (d < n4)%N ->
  mean P (fun o => value_at (drawn o) (at4 t b h i d)) = value_at x (at4 t b h i d).

Theorem recorded_core_is_unbiased :
  unbiased (c_batch c) (heads c) (c_queries c) (c_features c) (t_dq (c_free c)) /\
  unbiased (c_batch c) (c_key_heads c) (c_keys c) (c_features c) (t_dk (c_free c)) /\
  unbiased (c_batch c) (c_key_heads c) (c_keys c) (c_value_features c) (t_dv (c_free c)) /\
  (c_bias c -> unbiased (bias_batch c) (bias_heads c) (bias_queries c) (c_keys c) (t_dbias (c_free c))).
Proof.
have at_x := runs_are_the_program c c_recorded F K x.
have at_draw o := runs_are_the_program c c_recorded F K (drawn o).
have law := backward_from_weights_unbiased least num exp ln tanh sqrt (p := p) (P := P) (w := free_weights c x)
  (q := q) (m := kept) (free_delta x).
have [|||law_dq [law_dk [law_dv law_dbias]]] := law.
- move=> r j r_in r_seen; rewrite -marginal //; apply: eq_mean => o.
  by rewrite /kept (r_seen : visible (c_mask c) (r_i r) j).
- by move=> r j r_in r_seen; apply: positive.
- by move=> o r j _ /andP[].
have below a n : (a < n)%N -> (a < n)%coq_nat by move/ltP.
case: at_x => _ [_ [_ [[[_ x_dq] [[_ x_dk] [[_ x_dv] x_dbias]]] _]]].
split; last split; last split.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite /value_at x_dq; try by apply: below.
  rewrite -law_dq //; apply: eq_mean => o; have [core_dq _] := drawn_core o.
  case: (at_draw o) => _ [_ [_ [[[_ d_dq] _] _]]].
  by rewrite d_dq ?core_dq //; apply: below.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite /value_at x_dk; try by apply: below.
  rewrite -law_dk //; apply: eq_mean => o; have [_ [core_dk _]] := drawn_core o.
  case: (at_draw o) => _ [_ [_ [[_ [[_ d_dk] _]] _]]].
  by rewrite d_dk ?core_dk //; apply: below.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite /value_at x_dv; try by apply: below.
  rewrite -law_dv //; apply: eq_mean => o; have [_ [_ [core_dv _]]] := drawn_core o.
  case: (at_draw o) => _ [_ [_ [[_ [_ [[_ d_dv] _]]] _]]].
  by rewrite d_dv ?core_dv //; apply: below.
- move=> has_bias b h i d b_lt h_lt i_lt d_lt; have [_ x_db] := x_dbias has_bias.
  rewrite /value_at x_db; try by apply: below.
  rewrite -law_dbias //; last first.
    move: b_lt h_lt i_lt; rewrite /inside_bias /bias_batch /bias_heads /bias_queries /=.
    by case: c_spread_b => ?; case: c_spread_h => ?; case: c_spread_i => ?; split=> //; split.
  apply: eq_mean => o; have [_ [_ [_ core_db]]] := drawn_core o.
  case: (at_draw o) => _ [_ [_ [[_ [_ [_ /(_ has_bias) [_ d_db]]]] _]]].
  by rewrite d_db ?core_db //; apply: below.
Qed.

End Core.

Section Sampled.

Variables (F : realFieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Hypothesis exp_ge0 : forall a, 0 <= exp a.
Variable c : case.
Hypothesis c_recorded : List.In c runs.
Variables (x : inputs F) (lambda : row -> F).
Hypothesis lambda_gt0 : forall r, 0 < lambda r.

Let p := problem_of c K x.
Let ch := choices_of c.
Let s := forward K p ch.
Let W := w_w (dense_weights K p ch s).

Variables (Omega : finType) (P : Omega -> F) (m : Omega -> row -> nat -> bool).
Hypothesis total : \sum_o P o = 1.
Hypothesis chances : forall o, 0 <= P o.
Hypothesis marginal : forall r j, inside p r j -> visible (c_mask c) (r_i r) j ->
  mean P (fun o => (m o r j)%:R) = keep_probability (exact F) (lambda r) (W r j).
Hypothesis hidden : forall o r j, inside p r j -> m o r j -> visible (c_mask c) (r_i r) j.

Let pass o := sus_backward K p ch s (m o) (light least num exp ln tanh sqrt p ch s lambda) lambda.

(* The values of a recorded tensor are means over the masks. *)
Definition is_mean (n1 n2 n3 n4 : nat) (t : dims4) (f : Omega -> nat -> nat -> nat -> nat -> F) : Prop :=
  forall b h i d, (b < n1)%N -> (h < n2)%N -> (i < n3)%N -> (d < n4)%N ->
  mean P (fun o => f o b h i d) = value K x (c_table c) (at4 t b h i d).

Theorem recorded_gradient_is_the_mean :
  let t := c_backward c in
  is_mean (c_batch c) (heads c) (c_queries c) (c_features c) (t_dq t)
    (fun o b h i d => g_dq (pass o) (Row b h i) d) /\
  is_mean (c_batch c) (c_key_heads c) (c_keys c) (c_features c) (t_dk t) (fun o => g_dk (pass o)) /\
  is_mean (c_batch c) (c_key_heads c) (c_keys c) (c_value_features c) (t_dv t) (fun o => g_dv (pass o)) /\
  (c_bias c -> is_mean (bias_batch c) (bias_heads c) (bias_queries c) (c_keys c) (t_dbias t)
    (fun o b h i j => g_dbias (pass o) (Row b h i) j)) /\
  (c_sink c -> forall h, (h < heads c)%N ->
    mean P (fun o => g_dsink (pass o) h) = value K x (c_table c) (List.nth h (t_dsink t) BinNums.xH)).
Proof.
have W_ge0 r j : inside p r j -> p_visible p (r_i r) j -> 0 <= W r j by move=> _ _; apply: exp_ge0.
have law := @sus_backward_unbiased F least num exp ln tanh sqrt p ch s lambda Omega P m
  total chances lambda_gt0 W_ge0 marginal hidden.
case: law => law_dq [law_dk [law_dv [law_dbias law_dsink]]].
have below a n : (a < n)%N -> (a < n)%coq_nat by move/ltP.
have := runs_are_the_program c c_recorded F K x.
case=> _ [[[[_ x_dq] [[_ x_dk] [[_ x_dv] x_dbias]]] x_dsink] _].
split; last split; last split; last split.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite x_dq; try by apply: below.
  exact: law_dq.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite x_dk; try by apply: below.
  exact: law_dk.
- move=> b h i d b_lt h_lt i_lt d_lt; rewrite x_dv; try by apply: below.
  exact: law_dv.
- move=> has_bias b h i d b_lt h_lt i_lt d_lt; have [_ x_db] := x_dbias has_bias.
  rewrite x_db; try by apply: below.
  apply: law_dbias => //.
  move: b_lt h_lt i_lt; rewrite /inside_bias /bias_batch /bias_heads /bias_queries /=.
  by case: c_spread_b => ?; case: c_spread_h => ?; case: c_spread_i => ?; split=> //; split.
- move=> has_sink h h_lt; have [_ x_ds] := x_dsink has_sink.
  by rewrite x_ds; [exact: law_dsink | apply: below].
Qed.

End Sampled.
