(** Over the real numbers, the backward pass is the derivative of the forward pass.

    The programs are those of [Exec], with Coq's real numbers as scalars. Along any curve of inputs
    [t -> (q, k, v, bias, sink)] that is differentiable at [t0], the loss

      [sum <G, o> + sum dlse . lse]

    of [forward] is differentiable at [t0], and its derivative is

      [<dq, q'> + <dk, k'> + <dv, v'> + <dbias, bias'> + <dsink, sink'>]

    with the gradients of [backward] and the velocities [q', k', v', bias', sink'] of the curve
    ([backward_is_the_derivative]).

    The theorem holds for all sizes (zero included), any scale, any softcap other than zero or none, any
    visibility, groups of query heads, a bias that serves any of batch, heads and queries, sinks, and rows that see
    no key. It holds for every result of the program's comparisons ([choices]), and for every real number in the
    place of minus infinity ([least]), which is the [lse] of a row without key and sink. *)

From Coq Require Import Reals List ZArith Bool Arith Lia Lra.
From Coquelicot Require Import Coquelicot.
From SusOracle Require Import Exec.
Import ListNotations.

Open Scope R_scope.

(** * The scalars *)

Definition real_ops (least : R) : ops R :=
  Ops R 0 1 least (fun m e => IZR m * powerRZ 2 e) Rplus Rminus Rmult Rdiv Ropp exp ln tanh sqrt.

(** * Sums of real numbers over lists *)

Definition total {I} (l : list I) (f : I -> R) : R := fold_right (fun n s => f n + s) 0 l.

Lemma fold_total {I} (l : list I) (f : I -> R) a :
  fold_left (fun s n => s + f n) l a = a + total l f.
Proof.
  revert a. induction l as [|x l IH]; intros a; simpl; [ring|]. rewrite IH. ring.
Qed.

Lemma sum_total least {I} (l : list I) (f : I -> R) : sum (real_ops least) l f = total l f.
Proof. unfold sum. simpl. rewrite fold_total. ring. Qed.

Lemma total_ext {I} (l : list I) (f g : I -> R) :
  (forall n, In n l -> f n = g n) -> total l f = total l g.
Proof.
  induction l as [|x l IH]; simpl; intros H; [reflexivity|].
  rewrite H by now left. f_equal. apply IH. intros n Hn. apply H. now right.
Qed.

Lemma total_plus {I} (l : list I) (f g : I -> R) :
  total l (fun n => f n + g n) = total l f + total l g.
Proof. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_scale {I} (l : list I) (f : I -> R) a : total l (fun n => a * f n) = a * total l f.
Proof. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_scale_r {I} (l : list I) (f : I -> R) a : total l (fun n => f n * a) = total l f * a.
Proof. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_zero {I} (l : list I) : total l (fun _ => 0) = 0.
Proof. induction l as [|x l IH]; simpl; [reflexivity|]. rewrite IH. ring. Qed.

Lemma total_opp {I} (l : list I) (f : I -> R) : total l (fun n => - f n) = - total l f.
Proof. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_swap {I J} (l : list I) (m : list J) (f : I -> J -> R) :
  total l (fun i => total m (f i)) = total m (fun j => total l (fun i => f i j)).
Proof.
  induction l as [|x l IH]; simpl; [now rewrite total_zero|]. now rewrite IH, total_plus.
Qed.

Lemma total_app {I} (l m : list I) (f : I -> R) : total (l ++ m) f = total l f + total m f.
Proof. induction l as [|x l IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma total_flat_map {I J} (l : list I) (m : I -> list J) (f : J -> R) :
  total (flat_map m l) f = total l (fun i => total (m i) f).
Proof. induction l as [|x l IH]; simpl; [reflexivity|]. now rewrite total_app, IH. Qed.

Lemma total_map {I J} (l : list I) (m : I -> J) (f : J -> R) :
  total (map m l) f = total l (fun i => f (m i)).
Proof. induction l as [|x l IH]; simpl; [reflexivity|]. now rewrite IH. Qed.

Lemma total_filter {I} (test : I -> bool) (l : list I) (f : I -> R) :
  total (filter test l) f = total l (fun n => if test n then f n else 0).
Proof.
  induction l as [|x l IH]; simpl; [reflexivity|]. destruct (test x); simpl; rewrite IH; ring.
Qed.

Lemma total_nonneg {I} (l : list I) (f : I -> R) : (forall n, 0 <= f n) -> 0 <= total l f.
Proof.
  intros H. induction l as [|x l IH]; simpl; [lra|]. specialize (H x). lra.
Qed.

Lemma total_rows_of batch heads queries (f : row -> R) :
  total (rows_of batch heads queries) f
    = total batch (fun b => total heads (fun h => total queries (fun i => f (Row b h i)))).
Proof.
  unfold rows_of. rewrite total_flat_map. apply total_ext. intros b _.
  rewrite total_flat_map. apply total_ext. intros h _. now rewrite total_map.
Qed.

Lemma in_rows_of batch heads queries r :
  In r (rows_of batch heads queries) <-> In (r_b r) batch /\ In (r_h r) heads /\ In (r_i r) queries.
Proof.
  unfold rows_of. rewrite in_flat_map. split.
  - intros [b [Hb H]]. rewrite in_flat_map in H. destruct H as [h [Hh H]].
    rewrite in_map_iff in H. destruct H as [i [E Hi]]. subst r. simpl. auto.
  - destruct r as [b h i]. simpl. intros [Hb [Hh Hi]]. exists b. split; [exact Hb|].
    rewrite in_flat_map. exists h. split; [exact Hh|]. rewrite in_map_iff. now exists i.
Qed.

(** * Derivatives *)

Lemma d_const a t : is_derive (fun _ => a) t 0.
Proof. apply is_derive_Reals. apply derivable_pt_lim_const. Qed.

Lemma d_plus f g t a b :
  is_derive f t a -> is_derive g t b -> is_derive (fun t => f t + g t) t (a + b).
Proof. rewrite !is_derive_Reals. apply derivable_pt_lim_plus. Qed.

Lemma d_minus f g t a b :
  is_derive f t a -> is_derive g t b -> is_derive (fun t => f t - g t) t (a - b).
Proof. rewrite !is_derive_Reals. apply derivable_pt_lim_minus. Qed.

Lemma d_mult f g t a b :
  is_derive f t a -> is_derive g t b -> is_derive (fun t => f t * g t) t (a * g t + f t * b).
Proof. rewrite !is_derive_Reals. apply derivable_pt_lim_mult. Qed.

Lemma d_scale f t a b : is_derive f t b -> is_derive (fun t => a * f t) t (a * b).
Proof. rewrite !is_derive_Reals. apply derivable_pt_lim_scal. Qed.

Lemma d_value (f : R -> R) (t a b : R) : is_derive f t a -> a = b -> is_derive f t b.
Proof. now intros H <-. Qed.

Lemma d_chain f g t a b :
  is_derive f (g t) a -> is_derive g t b -> is_derive (fun t => f (g t)) t (a * b).
Proof.
  rewrite !is_derive_Reals. intros Hf Hg. exact (derivable_pt_lim_comp g f t b a Hg Hf).
Qed.

Lemma d_exp f t a : is_derive f t a -> is_derive (fun t => exp (f t)) t (exp (f t) * a).
Proof. apply d_chain. apply is_derive_Reals, derivable_pt_lim_exp. Qed.

Lemma d_ln f t a : is_derive f t a -> 0 < f t -> is_derive (fun t => ln (f t)) t (/ f t * a).
Proof.
  intros H P. apply (d_chain ln f t (/ f t) a); [|exact H].
  apply is_derive_Reals. now apply derivable_pt_lim_ln.
Qed.

Lemma cosh_pos y : 0 < cosh y.
Proof. unfold cosh. assert (A := exp_pos y). assert (B := exp_pos (- y)). lra. Qed.

Lemma d_tanh f t a :
  is_derive f t a -> is_derive (fun t => tanh (f t)) t ((1 - tanh (f t) ^ 2) * a).
Proof.
  apply (d_chain tanh f). apply is_derive_Reals.
  assert (P := cosh_pos (f t)).
  replace (1 - tanh (f t) ^ 2)
    with ((cosh (f t) * cosh (f t) - sinh (f t) * sinh (f t)) / Rsqr (cosh (f t)))
    by (unfold tanh, Rsqr; field; lra).
  apply (derivable_pt_lim_div sinh cosh);
    [apply derivable_pt_lim_sinh|apply derivable_pt_lim_cosh|lra].
Qed.

Lemma d_total {I} (l : list I) (f : R -> I -> R) t (a : I -> R) :
  (forall n, In n l -> is_derive (fun t => f t n) t (a n)) ->
  is_derive (fun t => total l (f t)) t (total l a).
Proof.
  induction l as [|x l IH]; simpl; intros H; [apply d_const|].
  apply d_plus; [apply H; now left|]. apply IH. intros n Hn. apply H. now right.
Qed.

(** * The softcap's slope and the softmax, as the program computes them, are the plain formulas *)

(** [4 e / (1 + e)^2] with [e = exp (-2 |y|)] is [1 - tanh^2 y], whichever sign is taken for [|y|]. *)
Theorem sech_squared_is_one_minus_tanh_squared least negative y :
  sech_squared (real_ops least) negative y = 1 - tanh y ^ 2.
Proof.
  unfold sech_squared. simpl o_num. cbn [o_exp o_opp o_add o_one o_mul o_div real_ops].
  unfold tanh, sinh, cosh.
  assert (A := exp_pos y). assert (B := exp_pos (- y)).
  assert (E : exp y * exp (- y) = 1) by (rewrite <- exp_plus, Rplus_opp_r; apply exp_0).
  assert (H : forall a b, 0 < a -> 0 < b -> a * b = 1 ->
    4 * 1 * (b * b) / ((1 + b * b) * (1 + b * b)) = 1 - ((a - b) / 2 / ((a + b) / 2)) ^ 2).
  { intros a b Ha Hb Hab. assert (b = / a) by (apply (Rmult_eq_reg_l a); [rewrite Rinv_r; lra|lra]).
    subst b. field. assert (0 < a * a) by now apply Rmult_lt_0_compat. repeat split; lra. }
  destruct negative.
  - replace (- (- y + - y)) with (y + y) by ring. rewrite exp_plus.
    rewrite (H (exp (- y)) (exp y) B A) by (rewrite Rmult_comm; exact E).
    field. lra.
  - rewrite Ropp_plus_distr, exp_plus. apply (H (exp y) (exp (- y)) A B E).
Qed.

(** The denominator of the softmax. *)
Definition denominator (scores : list R) (sink : option R) : R :=
  total scores exp + match sink with None => 0 | Some s => exp s end.

Lemma denominator_nonneg scores : 0 <= total scores exp.
Proof. apply total_nonneg. intros s. apply Rlt_le, exp_pos. Qed.

Lemma denominator_pos scores sink : (scores <> [] \/ sink <> None) -> 0 < denominator scores sink.
Proof.
  unfold denominator. intros H. assert (N := denominator_nonneg scores).
  destruct sink as [s|].
  - assert (P := exp_pos s). lra.
  - destruct scores as [|s scores]; [destruct H; congruence|].
    simpl. assert (P := exp_pos s). assert (N' := denominator_nonneg scores). lra.
Qed.

(** The program's [log_sum_exp] does not depend on the term that shifts the exponents: it is the logarithm of the
    denominator; it is [least] where there is no term. *)
Theorem log_sum_exp_is_ln_of_denominator least peak scores sink :
  (scores <> [] \/ sink <> None) ->
  log_sum_exp (real_ops least) peak scores sink = ln (denominator scores sink).
Proof.
  intros H. assert (P := denominator_pos scores sink H).
  unfold log_sum_exp.
  assert (S : forall m,
    m + ln (sum (real_ops least) scores (fun s => exp (s - m))
            + match sink with None => 0 | Some s => exp (s - m) end)
    = ln (denominator scores sink)).
  { intros m. rewrite sum_total.
    assert (E : total scores (fun s => exp (s - m))
        + match sink with None => 0 | Some s => exp (s - m) end
      = denominator scores sink * exp (- m)).
    { unfold denominator. rewrite Rmult_plus_distr_r, <- total_scale_r. f_equal.
      - apply total_ext. intros s _. now rewrite <- exp_plus.
      - destruct sink; [now rewrite <- exp_plus|ring]. }
    rewrite E, ln_mult, ln_exp; [ring|exact P|apply exp_pos]. }
  destruct sink as [s|]; [apply S|].
  destruct scores as [|s scores]; [destruct H; congruence|]. apply S.
Qed.

Lemma log_sum_exp_of_nothing least peak : log_sum_exp (real_ops least) peak [] None = least.
Proof. reflexivity. Qed.

(** * One row *)

Section Row.

Variables (least : R) (keys : list nat) (features : nat).
Variables (g : nat -> R) (dlse : R).
Variables (s : R -> nat -> R) (s' : nat -> R).                 (* scores *)
Variables (v : R -> nat -> nat -> R) (v' : nat -> nat -> R).   (* values *)
Variables (sink : option (R -> R)) (sink' : R).
Variables (peak : R -> nat) (t0 : R).

Hypothesis s_derive : forall j, In j keys -> is_derive (fun t => s t j) t0 (s' j).
Hypothesis v_derive : forall j e, In j keys -> (e < features)%nat ->
  is_derive (fun t => v t j e) t0 (v' j e).
Hypothesis sink_derive : match sink with None => True | Some f => is_derive f t0 sink' end.

Let K := real_ops least.
Let sink_at t := option_map (fun f : R -> R => f t) sink.
Let lse t := log_sum_exp K (peak t) (map (s t) keys) (sink_at t).
Let o t e := sum K keys (fun j => exp (s t j - lse t) * v t j e).
Let dot_g x := dot K features g x.
Let w j := exp (s t0 j - lse t0).
Let delta := dot_g (o t0).

Let W t j := exp (s t j - lse t).

(** The derivative where the denominator has a term, and hence is positive. *)
Lemma row_derivative_nonempty :
  (keys <> [] \/ sink <> None) ->
  is_derive (fun t => dot_g (o t) + dlse * lse t) t0
    (total keys (fun j => w j * (dot_g (v t0 j) - delta + dlse) * s' j)
     + total keys (fun j => w j * total (seq 0 features) (fun e => g e * v' j e))
     - match sink with None => 0 | Some f => exp (f t0 - lse t0) * (delta - dlse) * sink' end).
Proof.
  intros Hne.
  assert (Hne' : forall t, map (s t) keys <> [] \/ sink_at t <> None).
  { intros t. destruct Hne as [H|H]; [left|right].
    - now destruct keys.
    - unfold sink_at. now destruct sink. }
  set (z := fun t => total keys (fun j => exp (s t j))
    + match sink with None => 0 | Some f => exp (f t) end).
  assert (Ez : forall t, denominator (map (s t) keys) (sink_at t) = z t).
  { intros t. unfold denominator, z, sink_at. rewrite total_map. now destruct sink. }
  assert (Hz : forall t, 0 < z t) by (intros t; rewrite <- Ez; now apply denominator_pos).
  assert (Else : forall t, lse t = ln (z t)).
  { intros t. rewrite <- Ez. now apply log_sum_exp_is_ln_of_denominator. }
  assert (Eexp : forall t x, exp (x - lse t) = exp x / z t).
  { intros t x. unfold Rminus. rewrite exp_plus, exp_Ropp, Else, exp_ln; [reflexivity|apply Hz]. }
  set (ws := match sink with None => 0 | Some f => exp (f t0 - lse t0) * sink' end).
  set (lse' := total keys (fun j => w j * s' j) + ws).
  (* lse *)
  assert (Dlse : is_derive lse t0 lse').
  { apply (is_derive_ext (fun t => ln (z t))); [intros t; now rewrite Else|].
    assert (Dz : is_derive z t0 (total keys (fun j => exp (s t0 j) * s' j)
      + match sink with None => 0 | Some f => exp (f t0) * sink' end)).
    { unfold z. apply d_plus.
      - apply (d_total keys (fun t j => exp (s t j))). intros j Hj. apply d_exp. now apply s_derive.
      - destruct sink as [f|]; [|apply d_const]. now apply d_exp. }
    apply (d_value _ _ _ _ (d_ln _ _ _ Dz (Hz t0))).
    unfold lse', ws. rewrite Rmult_plus_distr_l, <- total_scale. f_equal.
    - apply total_ext. intros j _. unfold w. rewrite Eexp. field. apply Rgt_not_eq, Hz.
    - destruct sink as [f|]; [|ring]. rewrite Eexp. field. apply Rgt_not_eq, Hz. }
  (* the weights and the output *)
  assert (DW : forall j, In j keys -> is_derive (fun t => W t j) t0 (w j * (s' j - lse'))).
  { intros j Hj. unfold W, w. apply (d_exp (fun t => s t j - lse t)).
    apply (d_minus (fun t => s t j) lse); [now apply s_derive|exact Dlse]. }
  assert (Do : forall e, (e < features)%nat -> is_derive (fun t => o t e) t0
    (total keys (fun j => w j * (s' j - lse') * v t0 j e + w j * v' j e))).
  { intros e He. apply (is_derive_ext (fun t => total keys (fun j => W t j * v t j e))).
    - intros t. symmetry. apply sum_total.
    - apply (d_total keys (fun t j => W t j * v t j e)). intros j Hj.
      apply (d_mult (fun t => W t j) (fun t => v t j e)); [now apply DW|now apply v_derive]. }
  assert (Ddot : is_derive (fun t => dot_g (o t)) t0
    (total (seq 0 features) (fun e => g e
      * total keys (fun j => w j * (s' j - lse') * v t0 j e + w j * v' j e)))).
  { apply (is_derive_ext (fun t => total (seq 0 features) (fun e => g e * o t e))).
    - intros t. symmetry. apply sum_total.
    - apply (d_total (seq 0 features) (fun t e => g e * o t e)). intros e He.
      apply d_scale, Do. rewrite in_seq in He. lia. }
  apply (d_value _ _ _ _ (d_plus _ _ _ _ _ Ddot (d_scale _ _ dlse _ Dlse))).
  (* the algebra: every sum over features inside the sum over keys *)
  assert (Edot : forall x, dot_g x = total (seq 0 features) (fun e => g e * x e))
    by (intros x; apply sum_total).
  assert (Edelta : delta = total keys (fun j => w j * dot_g (v t0 j))).
  { unfold delta. rewrite Edot.
    rewrite (total_ext _ _ (fun e => total keys (fun j => g e * (w j * v t0 j e)))).
    2: { intros e _. unfold o, K. rewrite sum_total, total_scale. reflexivity. }
    rewrite total_swap. apply total_ext. intros j _. rewrite Edot, <- total_scale.
    apply total_ext. intros e _. ring. }
  assert (E1 : total (seq 0 features) (fun e => g e
      * total keys (fun j => w j * (s' j - lse') * v t0 j e + w j * v' j e))
    = total keys (fun j => w j * (s' j - lse') * dot_g (v t0 j))
      + total keys (fun j => w j * total (seq 0 features) (fun e => g e * v' j e))).
  { rewrite (total_ext _ _ (fun e => total keys (fun j =>
      w j * (s' j - lse') * (g e * v t0 j e) + w j * (g e * v' j e)))).
    2: { intros e _. rewrite <- total_scale. apply total_ext. intros j _. ring. }
    rewrite total_swap, <- total_plus. apply total_ext. intros j _.
    rewrite total_plus, !total_scale, Edot. reflexivity. }
  rewrite E1.
  assert (E2 : total keys (fun j => w j * (s' j - lse') * dot_g (v t0 j))
    = total keys (fun j => w j * dot_g (v t0 j) * s' j) - delta * lse').
  { rewrite Edelta, <- total_scale_r. unfold Rminus. rewrite <- total_opp, <- total_plus.
    apply total_ext. intros j _. ring. }
  assert (E3 : total keys (fun j => w j * (dot_g (v t0 j) - delta + dlse) * s' j)
    = total keys (fun j => w j * dot_g (v t0 j) * s' j)
      + (dlse - delta) * total keys (fun j => w j * s' j)).
  { rewrite <- total_scale, <- total_plus. apply total_ext. intros j _. ring. }
  assert (E4 : match sink with None => 0 | Some f => exp (f t0 - lse t0) * (delta - dlse) * sink' end
    = (delta - dlse) * ws) by (unfold ws; destruct sink; ring).
  rewrite E2, E3, E4. unfold lse'. ring.
Qed.

Lemma row_derivative :
  is_derive (fun t => dot_g (o t) + dlse * lse t) t0
    (total keys (fun j => w j * (dot_g (v t0 j) - delta + dlse) * s' j)
     + total keys (fun j => w j * total (seq 0 features) (fun e => g e * v' j e))
     - match sink with None => 0 | Some f => exp (f t0 - lse t0) * (delta - dlse) * sink' end).
Proof.
  destruct (list_eq_dec Nat.eq_dec keys []) as [Hk|Hk]; [|apply row_derivative_nonempty; now left].
  destruct (match sink with None => true | Some _ => false end) eqn:Hs.
  - (* no key and no sink: the loss is a constant *)
    assert (Hs' : sink = None) by (destruct sink; [discriminate|reflexivity]).
    assert (E : forall t, dot_g (fun _ => 0) + dlse * least = dot_g (o t) + dlse * lse t).
    { intros t. unfold dot_g, lse, o, sink_at. rewrite Hk, Hs'. reflexivity. }
    apply (is_derive_ext _ _ _ _ E). rewrite Hk, Hs'. simpl.
    apply (d_value _ _ 0); [apply d_const|ring].
  - apply row_derivative_nonempty. right. now destruct sink.
Qed.

End Row.

(** * Curves of inputs *)

(** The inputs with respect to which a loss is differentiated, and their velocities. [i_bias] and [i_sink] are read
    only where the problem has a bias or a sink. *)
Record inputs := Inputs {
  i_q : nat -> nat -> nat -> nat -> R;      (* [b, h, i, d] *)
  i_k : nat -> nat -> nat -> nat -> R;      (* [b, key head, j, d] *)
  i_v : nat -> nat -> nat -> nat -> R;      (* [b, key head, j, e] *)
  i_bias : nat -> nat -> nat -> nat -> R;   (* [b or 0, h or 0, i or 0, j] *)
  i_sink : nat -> R                         (* [h] *)
}.

(** The problem [p] with other numbers in [q], [k], [v], [bias] and [sink]. *)
Definition with_inputs (p : problem R) (x : inputs) : problem R :=
  Problem R (p_batch p) (p_key_heads p) (p_group p) (p_queries p) (p_keys p) (p_features p) (p_value_features p)
    (p_scale p) (p_softcap p) (p_visible p) (i_q x) (i_k x) (i_v x) (p_g p) (p_dlse p)
    (option_map (fun _ => i_bias x) (p_bias p)) (p_spread_b p) (p_spread_h p) (p_spread_i p)
    (option_map (fun _ => i_sink x) (p_sink p)).

(** The length of an axis of the bias. *)
Definition bias_length (spread : bool) (length : nat) : nat := if spread then 1%nat else length.

Definition all_rows (p : problem R) : list row :=
  rows_of (seq 0 (p_batch p)) (seq 0 (p_heads p)) (seq 0 (p_queries p)).

Definition bias_rows (p : problem R) : list row :=
  rows_of (seq 0 (bias_length (p_spread_b p) (p_batch p)))
          (seq 0 (bias_length (p_spread_h p) (p_heads p)))
          (seq 0 (bias_length (p_spread_i p) (p_queries p))).

(** Every number of the inputs of [p] is a function of [t] that is differentiable at [t0] with the velocity [x']. *)
Record differentiable (p : problem R) (x : R -> inputs) (t0 : R) (x' : inputs) : Prop := {
  q_differentiable : forall b h i d,
    (b < p_batch p)%nat -> (h < p_heads p)%nat -> (i < p_queries p)%nat -> (d < p_features p)%nat ->
    is_derive (fun t => i_q (x t) b h i d) t0 (i_q x' b h i d);
  k_differentiable : forall b kh j d,
    (b < p_batch p)%nat -> (kh < p_key_heads p)%nat -> (j < p_keys p)%nat -> (d < p_features p)%nat ->
    is_derive (fun t => i_k (x t) b kh j d) t0 (i_k x' b kh j d);
  v_differentiable : forall b kh j e,
    (b < p_batch p)%nat -> (kh < p_key_heads p)%nat -> (j < p_keys p)%nat -> (e < p_value_features p)%nat ->
    is_derive (fun t => i_v (x t) b kh j e) t0 (i_v x' b kh j e);
  bias_differentiable : p_bias p <> None -> forall b h i j,
    (b < bias_length (p_spread_b p) (p_batch p))%nat ->
    (h < bias_length (p_spread_h p) (p_heads p))%nat ->
    (i < bias_length (p_spread_i p) (p_queries p))%nat -> (j < p_keys p)%nat ->
    is_derive (fun t => i_bias (x t) b h i j) t0 (i_bias x' b h i j);
  sink_differentiable : p_sink p <> None -> forall h, (h < p_heads p)%nat ->
    is_derive (fun t => i_sink (x t) h) t0 (i_sink x' h)
}.

(** [sum <G, o> + sum dlse . lse]. *)
Definition loss (K : ops R) (p : problem R) (s : saved R) : R :=
  total (all_rows p) (fun r =>
    total (seq 0 (p_value_features p)) (fun e => g_of p r e * s_o s r e) + dlse_of K p r * s_lse s r).

(** [<dq, q'> + <dk, k'> + <dv, v'> + <dbias, bias'> + <dsink, sink'>]. *)
Definition pairing (p : problem R) (d : gradients (T := R)) (x' : inputs) : R :=
  total (all_rows p) (fun r => total (seq 0 (p_features p)) (fun f =>
    g_dq d r f * i_q x' (r_b r) (r_h r) (r_i r) f))
  + total (seq 0 (p_batch p)) (fun b => total (seq 0 (p_key_heads p)) (fun kh =>
      total (seq 0 (p_keys p)) (fun j => total (seq 0 (p_features p)) (fun f =>
        g_dk d b kh j f * i_k x' b kh j f))))
  + total (seq 0 (p_batch p)) (fun b => total (seq 0 (p_key_heads p)) (fun kh =>
      total (seq 0 (p_keys p)) (fun j => total (seq 0 (p_value_features p)) (fun e =>
        g_dv d b kh j e * i_v x' b kh j e))))
  + match p_bias p with
    | None => 0
    | Some _ => total (bias_rows p) (fun a => total (seq 0 (p_keys p)) (fun j =>
        g_dbias d a j * i_bias x' (r_b a) (r_h a) (r_i a) j))
    end
  + match p_sink p with
    | None => 0
    | Some _ => total (seq 0 (p_heads p)) (fun h => g_dsink d h * i_sink x' h)
    end.

(** * Regrouping sums over rows *)

Lemma total_groups groups g (f : nat -> R) :
  total (seq 0 groups) (fun kh => total (seq (kh * g) g) f) = total (seq 0 (groups * g)) f.
Proof.
  induction groups as [|n IH]; [reflexivity|].
  rewrite seq_S, total_app, IH. simpl Nat.mul. rewrite (Nat.add_comm g), seq_app, total_app. simpl. ring.
Qed.

Lemma key_head_of_group (p : problem R) kh h :
  In h (seq (kh * p_group p) (p_group p)) -> key_head p h = kh.
Proof.
  intros H. rewrite in_seq in H. unfold key_head. symmetry.
  apply (Nat.div_unique _ _ _ (h - kh * p_group p)); lia.
Qed.

Lemma key_head_in_range (p : problem R) h : (h < p_heads p)%nat -> (key_head p h < p_key_heads p)%nat.
Proof.
  unfold p_heads, key_head. intros H. apply Nat.div_lt_upper_bound; [|lia].
  intros E. rewrite E in H. lia.
Qed.

Lemma rows_reading_spec (p : problem R) b kh r :
  In r (rows_reading p b kh) -> r_b r = b /\ key_head p (r_h r) = kh.
Proof.
  unfold rows_reading. intros H. apply in_rows_of in H. destruct H as [[Hb|[]] [Hh _]].
  split; [now symmetry|]. now apply key_head_of_group.
Qed.

(** A sum over keys, and over the rows that read each, is a sum over rows, and over the keys that each reads. *)
Lemma total_by_key (p : problem R) (kept : row -> nat -> bool) (f : row -> nat -> R) :
  total (seq 0 (p_batch p)) (fun b => total (seq 0 (p_key_heads p)) (fun kh =>
    total (seq 0 (p_keys p)) (fun j =>
      total (filter (fun r => kept r j) (rows_reading p b kh)) (fun r => f r j))))
  = total (all_rows p) (fun r => total (filter (kept r) (seq 0 (p_keys p))) (f r)).
Proof.
  unfold all_rows. rewrite total_rows_of. apply total_ext. intros b _.
  unfold p_heads. rewrite <- total_groups. apply total_ext. intros kh _.
  rewrite (total_ext _ _ (fun j => total (rows_reading p b kh) (fun r => if kept r j then f r j else 0)))
    by (intros j _; apply total_filter).
  rewrite total_swap. unfold rows_reading. rewrite total_rows_of. simpl. rewrite Rplus_0_r.
  apply total_ext. intros h _. apply total_ext. intros i _. now rewrite total_filter.
Qed.

Lemma total_axis spread n (f : nat -> R) :
  total (seq 0 (bias_length spread n)) (fun a => total (if spread then seq 0 n else [a]) f)
  = total (seq 0 n) f.
Proof.
  destruct spread; simpl; [ring|]. apply total_ext. intros a _. ring.
Qed.

Lemma rows_reading_bias_spec (p : problem R) a r :
  In a (bias_rows p) -> In r (rows_reading_bias p a) -> bias_row p r = a.
Proof.
  unfold bias_rows, rows_reading_bias, bias_row, bias_length. intros Ha Hr.
  apply in_rows_of in Ha. apply in_rows_of in Hr.
  destruct a as [b h i], r as [b' h' i']. simpl in *. destruct Ha as [Hb [Hh Hi]], Hr as [Hb' [Hh' Hi']].
  f_equal.
  - destruct (p_spread_b p); simpl in *; lia.
  - destruct (p_spread_h p); simpl in *; lia.
  - destruct (p_spread_i p); simpl in *; lia.
Qed.

(** A sum over the rows of the bias, and over the rows that read each, is a sum over rows. *)
Lemma total_by_bias (p : problem R) (kept : row -> nat -> bool) (f : row -> nat -> R) :
  total (bias_rows p) (fun a => total (seq 0 (p_keys p)) (fun j =>
    total (filter (fun r => kept r j) (rows_reading_bias p a)) (fun r => f r j)))
  = total (all_rows p) (fun r => total (filter (kept r) (seq 0 (p_keys p))) (f r)).
Proof.
  rewrite (total_ext _ _ (fun a => total (rows_reading_bias p a)
    (fun r => total (filter (kept r) (seq 0 (p_keys p))) (f r)))).
  2: { intros a _.
    rewrite (total_ext _ _ (fun j => total (rows_reading_bias p a) (fun r => if kept r j then f r j else 0)))
      by (intros j _; apply total_filter).
    rewrite total_swap. apply total_ext. intros r _. now rewrite total_filter. }
  generalize (fun r => total (filter (kept r) (seq 0 (p_keys p))) (f r)). intros F.
  unfold bias_rows, all_rows, rows_reading_bias. rewrite !total_rows_of.
  rewrite <- (total_axis (p_spread_b p) (p_batch p)). apply total_ext. intros a _.
  rewrite (total_ext _ _ (fun h => total (seq 0 (bias_length (p_spread_i p) (p_queries p))) (fun i =>
    total (if p_spread_h p then seq 0 (p_heads p) else [h]) (fun h' =>
      total (if p_spread_b p then seq 0 (p_batch p) else [a]) (fun b' =>
        total (if p_spread_i p then seq 0 (p_queries p) else [i]) (fun i' => F (Row b' h' i'))))))).
  2: { intros h _. apply total_ext. intros i _. rewrite total_rows_of. simpl. apply total_swap. }
  rewrite (total_ext _ _ (fun h => total (if p_spread_h p then seq 0 (p_heads p) else [h]) (fun h' =>
    total (if p_spread_b p then seq 0 (p_batch p) else [a]) (fun b' =>
      total (seq 0 (p_queries p)) (fun i' => F (Row b' h' i')))))).
  2: { intros h _. rewrite total_swap. apply total_ext. intros h' _. rewrite total_swap.
    apply total_ext. intros b' _. apply total_axis. }
  rewrite total_axis. apply total_swap.
Qed.

Lemma fold_minus_total {I} (l : list I) (f : I -> R) :
  fold_left (fun s n => s - f n) l 0 = - total l f.
Proof.
  assert (H : forall a, fold_left (fun s n => s - f n) l a = a - total l f).
  { induction l as [|x l IH]; intros a; simpl; [ring|]. rewrite IH. ring. }
  rewrite H. ring.
Qed.

(** * The theorem *)

Section Curve.

Variables (least : R) (p : problem R) (x : R -> inputs) (t0 : R) (x' : inputs).
Variables (c : R -> choices) (c' : choices).
Hypothesis softcap_not_zero : p_softcap p <> Some 0.
Hypothesis smooth : differentiable p x t0 x'.

Let K := real_ops least.
Let P t := with_inputs p (x t).

Definition bias_velocity (r : row) (j : nat) : R :=
  match p_bias p with
  | None => 0
  | Some _ => let a := bias_row p r in i_bias x' (r_b a) (r_h a) (r_i a) j
  end.

Lemma in_all_rows r : In r (all_rows p) ->
  (r_b r < p_batch p)%nat /\ (r_h r < p_heads p)%nat /\ (r_i r < p_queries p)%nat.
Proof. unfold all_rows. rewrite in_rows_of, !in_seq. lia. Qed.

Lemma in_visible_keys r j : In j (visible_keys p r) -> (j < p_keys p)%nat.
Proof. unfold visible_keys. rewrite filter_In, in_seq. lia. Qed.

Lemma bias_derivative r j : In r (all_rows p) -> (j < p_keys p)%nat ->
  is_derive (fun t => bias_of K (P t) r j) t0 (bias_velocity r j).
Proof.
  intros Hr Hj. apply in_all_rows in Hr. destruct Hr as [Hb [Hh Hi]].
  unfold bias_of, bias_velocity. destruct (p_bias p) as [bias|] eqn:E.
  - apply (is_derive_ext (fun t => i_bias (x t) (r_b (bias_row p r)) (r_h (bias_row p r)) (r_i (bias_row p r)) j)).
    + intros t. unfold P, with_inputs. cbn [p_bias]. rewrite E. reflexivity.
    + apply (bias_differentiable _ _ _ _ smooth); [congruence| | | |exact Hj];
        unfold bias_row, bias_length; simpl.
      * destruct (p_spread_b p); lia.
      * destruct (p_spread_h p); lia.
      * destruct (p_spread_i p); lia.
  - apply (is_derive_ext (fun _ => 0)); [|apply d_const].
    intros t. unfold P, with_inputs. cbn [p_bias]. rewrite E. reflexivity.
Qed.

(** [q'_i . k_j + q_i . k'_j]. *)
Definition product_velocity (r : row) (j : nat) : R :=
  total (seq 0 (p_features p)) (fun d => i_q x' (r_b r) (r_h r) (r_i r) d * k_of (P t0) r j d)
  + total (seq 0 (p_features p)) (fun d => q_of (P t0) r d * i_k x' (r_b r) (key_head p (r_h r)) j d).

Lemma z_derivative r j : In r (all_rows p) -> (j < p_keys p)%nat ->
  is_derive (fun t => z_of K (P t) r j) t0 (p_scale p * product_velocity r j).
Proof.
  intros Hr Hj. apply in_all_rows in Hr. destruct Hr as [Hb [Hh Hi]].
  assert (Hkh := key_head_in_range p _ Hh).
  apply (d_scale (fun t => dot K (p_features p) (q_of (P t) r) (k_of (P t) r j))).
  apply (is_derive_ext (fun t => total (seq 0 (p_features p)) (fun d => q_of (P t) r d * k_of (P t) r j d))).
  - intros t. symmetry. apply sum_total.
  - unfold product_velocity. rewrite <- total_plus.
    apply (d_total _ (fun t d => q_of (P t) r d * k_of (P t) r j d)). intros d Hd. rewrite in_seq in Hd.
    apply (d_mult (fun t => q_of (P t) r d) (fun t => k_of (P t) r j d)).
    + apply (q_differentiable _ _ _ _ smooth); lia.
    + apply (k_differentiable _ _ _ _ smooth); lia.
Qed.

Lemma score_derivative r j : In r (all_rows p) -> (j < p_keys p)%nat ->
  is_derive (fun t => score K (P t) r j) t0
    (slope K (P t0) c' r j * product_velocity r j + bias_velocity r j).
Proof.
  intros Hr Hj.
  assert (Dz := z_derivative r j Hr Hj). assert (Db := bias_derivative r j Hr Hj).
  unfold score, slope. cbn [p_softcap P with_inputs].
  assert (Hcap := softcap_not_zero). destruct (p_softcap p) as [cap|].
  - assert (Hc : cap <> 0) by congruence.
    apply (d_plus (fun t => cap * tanh (z_of K (P t) r j / cap)) (fun t => bias_of K (P t) r j));
      [|exact Db].
    assert (Dy : is_derive (fun t => z_of K (P t) r j / cap) t0 (p_scale p * product_velocity r j / cap)).
    { apply (is_derive_ext (fun t => / cap * z_of K (P t) r j)); [intros t; apply Rmult_comm|].
      apply (d_value _ _ _ _ (d_scale _ _ (/ cap) _ Dz)). apply Rmult_comm. }
    apply (d_value _ _ _ _ (d_scale _ _ cap _ (d_tanh _ _ _ Dy))).
    unfold K. rewrite sech_squared_is_one_minus_tanh_squared. cbn [p_scale P with_inputs o_mul o_div K real_ops].
    field. exact Hc.
  - apply (d_plus (fun t => z_of K (P t) r j) (fun t => bias_of K (P t) r j)); [exact Dz|exact Db].
Qed.

Let forward0 := forward K (P t0) (c t0).
Let w0 := dense_weights K (P t0) c' forward0.
Let delta0 := delta K (P t0) forward0.
Let ds r j := w_w w0 r j * t_of K (P t0) delta0 r j.

Definition value_velocity (r : row) (j : nat) : R :=
  total (seq 0 (p_value_features p)) (fun e => g_of p r e * i_v x' (r_b r) (key_head p (r_h r)) j e).

Definition sink_velocity (r : row) : R :=
  match p_sink p with
  | None => 0
  | Some _ => exp (i_sink (x t0) (r_h r) - s_lse forward0 r) * (delta0 r - dlse_of K p r) * i_sink x' (r_h r)
  end.

Lemma loss_of_row_derivative r : In r (all_rows p) ->
  is_derive (fun t => dot K (p_value_features p) (g_of p r) (s_o (forward K (P t) (c t)) r)
                      + dlse_of K p r * s_lse (forward K (P t) (c t)) r) t0
    (total (visible_keys p r) (fun j =>
       ds r j * (w_slope w0 r j * product_velocity r j + bias_velocity r j))
     + total (visible_keys p r) (fun j => w_w w0 r j * value_velocity r j)
     - sink_velocity r).
Proof.
  intros Hr. assert (Hr' := in_all_rows r Hr). destruct Hr' as [Hb [Hh Hi]].
  assert (Hkh := key_head_in_range p _ Hh).
  set (sink := option_map (fun (_ : nat -> R) (t : R) => i_sink (x t) (r_h r)) (p_sink p)).
  assert (Hsink : forall t, sink_of (P t) r = option_map (fun f : R -> R => f t) sink).
  { intros t. unfold sink_of, P, with_inputs, sink. cbn [p_sink]. now destruct (p_sink p). }
  assert (Dsink : match sink with None => True | Some f => is_derive f t0 (i_sink x' (r_h r)) end).
  { unfold sink. assert (Hs := sink_differentiable _ _ _ _ smooth).
    destruct (p_sink p); simpl; [apply Hs; [discriminate|exact Hh]|exact I]. }
  assert (D := row_derivative least (visible_keys p r) (p_value_features p) (g_of p r) (dlse_of K p r)
    (fun t j => score K (P t) r j) (fun j => slope K (P t0) c' r j * product_velocity r j + bias_velocity r j)
    (fun t j e => v_of (P t) r j e) (fun j e => i_v x' (r_b r) (key_head p (r_h r)) j e)
    sink (i_sink x' (r_h r)) (fun t => c_peak (c t) r) t0).
  assert (Else : forall t, s_lse (forward K (P t) (c t)) r
    = log_sum_exp (real_ops least) (c_peak (c t) r) (map (fun j => score K (P t) r j) (visible_keys p r))
        (option_map (fun f : R -> R => f t) sink)).
  { intros t. cbn [forward s_lse]. unfold lse_of. rewrite Hsink. reflexivity. }
  assert (Eo : forall t e, s_o (forward K (P t) (c t)) r e
    = sum (real_ops least) (visible_keys p r) (fun j =>
        exp (score K (P t) r j - s_lse (forward K (P t) (c t)) r) * v_of (P t) r j e)) by reflexivity.
  assert (Edot : forall f g : nat -> R, (forall e, f e = g e) ->
    dot (real_ops least) (p_value_features p) (g_of p r) f
    = dot (real_ops least) (p_value_features p) (g_of p r) g).
  { intros f g E. unfold dot. rewrite !sum_total. apply total_ext. intros e _. now rewrite E. }
  refine (is_derive_ext _ _ _ _ _ (d_value _ _ _ _ (D _ _ Dsink) _)).
  - intros t. cbv beta. rewrite <- Else. unfold K. f_equal.
  - intros j Hj. apply score_derivative; [exact Hr|now apply in_visible_keys in Hj].
  - intros j e Hj He. apply in_visible_keys in Hj.
    apply (v_differentiable _ _ _ _ smooth); lia.
  - cbv beta. rewrite <- Else. unfold sink_velocity, ds. f_equal.
    destruct (p_sink p); reflexivity.
Qed.

Let grads := backward K (P t0) c' forward0.

(** Each pairing of a gradient with its velocity is a sum over rows and the keys that they see. *)

Lemma dq_pairing :
  total (all_rows p) (fun r => total (seq 0 (p_features p)) (fun d =>
    g_dq grads r d * i_q x' (r_b r) (r_h r) (r_i r) d))
  = total (all_rows p) (fun r => total (visible_keys p r) (fun j => ds r j * (w_slope w0 r j
      * total (seq 0 (p_features p)) (fun d => i_q x' (r_b r) (r_h r) (r_i r) d * k_of (P t0) r j d)))).
Proof.
  apply total_ext. intros r _.
  rewrite (total_ext _ _ (fun d => total (visible_keys p r) (fun j =>
    ds r j * (w_slope w0 r j * (i_q x' (r_b r) (r_h r) (r_i r) d * k_of (P t0) r j d))))).
  - rewrite total_swap. apply total_ext. intros j _. now rewrite !total_scale.
  - intros d _. cbn [grads backward backward_with g_dq]. unfold dq, K. rewrite sum_total, <- total_scale_r.
    apply total_ext. intros j _. cbn [o_mul real_ops]. fold K. fold delta0. unfold ds. fold w0. ring.
Qed.

Lemma dk_pairing :
  total (seq 0 (p_batch p)) (fun b => total (seq 0 (p_key_heads p)) (fun kh =>
    total (seq 0 (p_keys p)) (fun j => total (seq 0 (p_features p)) (fun d =>
      g_dk grads b kh j d * i_k x' b kh j d))))
  = total (all_rows p) (fun r => total (visible_keys p r) (fun j => ds r j * (w_slope w0 r j
      * total (seq 0 (p_features p)) (fun d => q_of (P t0) r d * i_k x' (r_b r) (key_head p (r_h r)) j d)))).
Proof.
  unfold visible_keys. rewrite <- (total_by_key p (fun r j => p_visible p (r_i r) j)).
  apply total_ext. intros b _. apply total_ext. intros kh _. apply total_ext. intros j _.
  rewrite (total_ext _ _ (fun d => total (filter (fun r => p_visible p (r_i r) j) (rows_reading p b kh))
    (fun r => ds r j * (w_slope w0 r j * (q_of (P t0) r d * i_k x' b kh j d))))).
  - rewrite total_swap. apply total_ext. intros r Hr. apply filter_In in Hr. destruct Hr as [Hr _].
    apply rows_reading_spec in Hr. destruct Hr as [-> ->]. now rewrite !total_scale.
  - intros d _. cbn [grads backward backward_with g_dk]. unfold dk, K. rewrite sum_total, <- total_scale_r.
    apply total_ext. intros r _. cbn [o_mul real_ops]. fold K. fold delta0. unfold ds. fold w0. ring.
Qed.

Lemma dv_pairing :
  total (seq 0 (p_batch p)) (fun b => total (seq 0 (p_key_heads p)) (fun kh =>
    total (seq 0 (p_keys p)) (fun j => total (seq 0 (p_value_features p)) (fun e =>
      g_dv grads b kh j e * i_v x' b kh j e))))
  = total (all_rows p) (fun r => total (visible_keys p r) (fun j => w_w w0 r j * value_velocity r j)).
Proof.
  unfold visible_keys. rewrite <- (total_by_key p (fun r j => p_visible p (r_i r) j)).
  apply total_ext. intros b _. apply total_ext. intros kh _. apply total_ext. intros j _.
  rewrite (total_ext _ _ (fun e => total (filter (fun r => p_visible p (r_i r) j) (rows_reading p b kh))
    (fun r => w_w w0 r j * (g_of p r e * i_v x' b kh j e)))).
  - rewrite total_swap. apply total_ext. intros r Hr. apply filter_In in Hr. destruct Hr as [Hr _].
    apply rows_reading_spec in Hr. destruct Hr as [Eb Ekh]. unfold value_velocity. rewrite Eb, Ekh.
    now rewrite !total_scale.
  - intros e _. cbn [grads backward backward_with g_dv]. unfold dv, K. rewrite sum_total, <- total_scale_r.
    apply total_ext. intros r _. cbn [o_mul real_ops]. fold K. fold w0.
    change (g_of (P t0) r e) with (g_of p r e). ring.
Qed.

Lemma dbias_pairing :
  match p_bias p with
  | None => 0
  | Some _ => total (bias_rows p) (fun a => total (seq 0 (p_keys p)) (fun j =>
      g_dbias grads a j * i_bias x' (r_b a) (r_h a) (r_i a) j))
  end
  = total (all_rows p) (fun r => total (visible_keys p r) (fun j => ds r j * bias_velocity r j)).
Proof.
  unfold bias_velocity. destruct (p_bias p) as [bias|].
  - unfold visible_keys. rewrite <- (total_by_bias p (fun r j => p_visible p (r_i r) j)).
    apply total_ext. intros a Ha. apply total_ext. intros j _.
    cbn [grads backward backward_with g_dbias]. unfold dbias, K. rewrite sum_total, <- total_scale_r.
    apply total_ext. intros r Hr. apply filter_In in Hr. destruct Hr as [Hr _].
    rewrite (rows_reading_bias_spec p a r Ha Hr).
    cbn [o_mul real_ops]. fold K. fold delta0. unfold ds. fold w0. ring.
  - symmetry. rewrite (total_ext _ _ (fun _ => 0)); [apply total_zero|]. intros r _.
    rewrite (total_ext _ _ (fun _ => 0)); [apply total_zero|]. intros j _. ring.
Qed.

Lemma dsink_pairing :
  match p_sink p with
  | None => 0
  | Some _ => total (seq 0 (p_heads p)) (fun h => g_dsink grads h * i_sink x' h)
  end
  = - total (all_rows p) (fun r => sink_velocity r).
Proof.
  unfold sink_velocity. destruct (p_sink p) as [sink|] eqn:E.
  - unfold all_rows. rewrite total_rows_of, total_swap, <- total_opp. apply total_ext. intros h _.
    cbn [grads backward backward_with g_dsink]. unfold dsink.
    assert (Es : p_sink (P t0) = Some (i_sink (x t0))) by (unfold P, with_inputs; cbn [p_sink]; now rewrite E).
    rewrite Es. cbn [o_sub o_mul o_zero o_exp K real_ops]. fold K.
    rewrite (fold_minus_total _ (fun r =>
      exp (i_sink (x t0) h - s_lse forward0 r) * (delta0 r - dlse_of K (P t0) r))).
    rewrite total_rows_of. cbn [p_batch p_queries P with_inputs].
    rewrite <- Ropp_mult_distr_l, <- total_scale_r. f_equal. apply total_ext. intros b _.
    simpl total at 1. rewrite Rplus_0_r, <- total_scale_r. apply total_ext. intros i _. reflexivity.
  - rewrite total_zero. ring.
Qed.

Theorem backward_is_the_derivative :
  is_derive (fun t => loss K (P t) (forward K (P t) (c t))) t0
    (pairing p (backward K (P t0) c' (forward K (P t0) (c t0))) x').
Proof.
  apply (is_derive_ext (fun t => total (all_rows p) (fun r =>
    dot K (p_value_features p) (g_of p r) (s_o (forward K (P t) (c t)) r)
    + dlse_of K p r * s_lse (forward K (P t) (c t)) r))).
  - intros t. unfold loss. apply total_ext. intros r _. f_equal. apply sum_total.
  - refine (d_value _ _ _ _ (d_total _ _ _ _ loss_of_row_derivative) _).
    unfold pairing. fold forward0. fold grads.
    rewrite dq_pairing, dk_pairing, dv_pairing, dbias_pairing, dsink_pairing, <- total_opp, <- !total_plus.
    apply total_ext. intros r _. rewrite <- !total_plus.
    unfold Rminus. f_equal. apply total_ext. intros j _.
    unfold product_velocity. ring.
Qed.

End Curve.

(** * The program's formulas in plain form *)

(** Every problem is one of the problems [with_inputs]. *)
Definition own_inputs (p : problem R) : inputs :=
  Inputs (p_q p) (p_k p) (p_v p)
    (match p_bias p with Some bias => bias | None => fun _ _ _ _ => 0 end)
    (match p_sink p with Some sink => sink | None => fun _ => 0 end).

Theorem with_own_inputs (p : problem R) : with_inputs p (own_inputs p) = p.
Proof.
  destruct p as [batch kh group queries keys f vf scale cap vis q k v g dlse bias sb sh si sink].
  unfold with_inputs, own_inputs. simpl. destruct bias, sink; reflexivity.
Qed.

Section Plain.

Variables (least : R) (p : problem R) (c : choices) (r : row).
Let K := real_ops least.
Let s := forward K p c.

(** The slope is the scale times [1 - (capped score / softcap)^2]; the capped score is the score before the bias. *)
Theorem slope_in_plain_form j cap :
  p_softcap p = Some cap -> cap <> 0 ->
  slope K p c r j = p_scale p * (1 - ((score K p r j - bias_of K p r j) / cap) ^ 2).
Proof.
  intros E Hc. unfold slope, score. rewrite E. unfold K.
  rewrite sech_squared_is_one_minus_tanh_squared. cbn [o_add o_mul o_div o_tanh real_ops]. field. exact Hc.
Qed.

(** [lse = ln (sum_j exp s_j + exp sink)]. *)
Theorem lse_in_plain_form :
  (visible_keys p r <> [] \/ p_sink p <> None) ->
  s_lse s r = ln (total (visible_keys p r) (fun j => exp (score K p r j))
                  + match p_sink p with None => 0 | Some sink => exp (sink (r_h r)) end).
Proof.
  intros H. unfold s. cbn [forward s_lse]. unfold lse_of, K.
  rewrite log_sum_exp_is_ln_of_denominator.
  - unfold denominator, sink_of. rewrite total_map. now destruct (p_sink p).
  - destruct H as [H|H]; [left|right].
    + now destruct (visible_keys p r).
    + unfold sink_of. now destruct (p_sink p).
Qed.

(** The weights of a row, and the sink's share, sum to one. *)
Theorem weights_sum_to_one :
  (visible_keys p r <> [] \/ p_sink p <> None) ->
  total (visible_keys p r) (fun j => w_w (dense_weights K p c s) r j)
    + match p_sink p with None => 0 | Some sink => exp (sink (r_h r) - s_lse s r) end = 1.
Proof.
  intros H. assert (L := lse_in_plain_form H). cbn [dense_weights w_w].
  set (z := total _ _ + match p_sink p with None => 0 | Some sink => exp (sink (r_h r)) end) in L.
  assert (P : 0 < z).
  { assert (D := denominator_pos (map (score K p r) (visible_keys p r)) (sink_of p r)).
    unfold denominator, sink_of in D. rewrite total_map in D. unfold z.
    destruct (p_sink p); simpl in D; apply D.
    - right. discriminate.
    - left. destruct H as [H|H]; [|congruence]. now destruct (visible_keys p r). }
  assert (E : forall a, exp (a - s_lse s r) = exp a * / z).
  { intros a. unfold Rminus. now rewrite exp_plus, exp_Ropp, L, exp_ln. }
  rewrite (total_ext _ _ (fun j => exp (score K p r j) * / z)) by (intros j _; apply E).
  rewrite total_scale_r.
  replace (match p_sink p with None => 0 | Some sink => exp (sink (r_h r) - s_lse s r) end)
    with (match p_sink p with None => 0 | Some sink => exp (sink (r_h r)) end * / z)
    by (destruct (p_sink p); [now rewrite E|ring]).
  rewrite <- Rmult_plus_distr_r. fold z. field. lra.
Qed.

(** A row that sees no key: [o = 0], and [lse] is the sink, or [least] without one. *)
Theorem empty_row :
  visible_keys p r = [] ->
  (forall e, s_o s r e = 0) /\
  s_lse s r = match p_sink p with None => least | Some sink => sink (r_h r) end.
Proof.
  intros H. split.
  - intros e. unfold s. cbn [forward s_o]. unfold o_of. rewrite H. reflexivity.
  - destruct (p_sink p) as [sink|] eqn:E.
    + rewrite lse_in_plain_form by (right; congruence). rewrite H, E. simpl. rewrite Rplus_0_l. apply ln_exp.
    + unfold s. cbn [forward s_lse]. unfold lse_of, sink_of. rewrite H, E. reflexivity.
Qed.

End Plain.
