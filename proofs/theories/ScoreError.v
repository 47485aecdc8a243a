(** The stage "score and exp" of the error bounds, end to end: inner product, scale, bias, exponent, weight.

    A kernel computes a score in any order and over any tree, with or without fused multiply-additions, multiplies
    it by a rounded scale, adds a bias if there is one, subtracts [lse] and takes [exp], or [exp2] of the two
    operands multiplied by a rounded [log2 e]. Its weight is then the true one times [e^theta] with

      [|theta| <= |scale| (gamma_(D+8) sum |q k| + D eta) + 2.5 u |z| + u |s| (with a bias)
                  + 3 u (|s| + M) + (2 exp_ulp + 1) u + 3 u (|lse| + M)],

    which is the sum of the worst cases that the crate adds for one entry ([Scores::entry_of], [exponential], and
    the conversion of a given [lse] in [RowArithmetic::forward]); [M] is at least [|s|]. *)

From Coq Require Import Reals ZArith List Permutation Lia Lra Psatz.
From Flocq Require Import Core.
From SusOracle Require Import Sums.
Import ListNotations.

Open Scope R_scope.

(** * Logarithms of factors near one *)

Lemma exp_bounds_log d x : 0 <= x <= / 2 -> Rabs d <= x -> 0 < 1 + d /\ Rabs (ln (1 + d)) <= x + 2 * (x * x).
Proof.
  intros Hx Hd. apply Rabs_le_inv in Hd. split; [lra|].
  assert (U : ln (1 + d) <= d).
  { rewrite <- (ln_exp d) at 2. assert (E := exp_ineq1_le d).
    destruct (Rle_lt_or_eq_dec _ _ E) as [L|E']; [|rewrite E'; apply Rle_refl].
    apply Rlt_le, ln_increasing; lra. }
  assert (L : - (x + 2 * (x * x)) <= ln (1 + d)).
  { assert (V : - ln (1 + d) <= - d / (1 + d)).
    { rewrite <- ln_Rinv by lra. replace (/ (1 + d)) with (1 + - d / (1 + d)) by (field; lra).
      set (y := - d / (1 + d)).
      assert (Hy : 0 < 1 + y).
      { unfold y. replace (1 + - d / (1 + d)) with (/ (1 + d)) by (field; lra). apply Rinv_0_lt_compat. lra. }
      rewrite <- (ln_exp y) at 2. assert (E := exp_ineq1_le y).
      destruct (Rle_lt_or_eq_dec _ _ E) as [L|E']; [|rewrite E'; apply Rle_refl].
      apply Rlt_le, ln_increasing; lra. }
    assert (W : - d / (1 + d) <= x + 2 * (x * x)).
    { apply (Rmult_le_reg_r (1 + d)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
      assert (P : 0 <= x * x) by (apply Rmult_le_pos; lra).
      assert (Q : (x + 2 * (x * x)) * (1 - x) <= (x + 2 * (x * x)) * (1 + d)).
      { apply Rmult_le_compat_l; lra. }
      assert (S : x <= (x + 2 * (x * x)) * (1 - x)).
      { replace ((x + 2 * (x * x)) * (1 - x)) with (x + (x * x) * (1 - 2 * x)) by ring.
        assert (0 <= (x * x) * (1 - 2 * x)) by (apply Rmult_le_pos; lra). lra. }
      lra. }
    lra. }
  assert (P : 0 <= x * x) by (apply Rmult_le_pos; lra).
  apply Rabs_le. split; lra.
Qed.

(** * The exponent, in natural logarithms

    [s_c] is a computed score, [s] the true one. *)

Section Exponent.

Variables (format : R -> Prop) (rnd : R -> R) (u eta_1 : R).
Hypothesis ok : rounding format rnd u eta_1.
Hypothesis format_opp : forall x, format x -> format (- x).
Hypothesis u_small : u <= / 256.
Variables s_c s lse : R.
Hypothesis s_c_format : format s_c.
Hypothesis lse_format : format lse.

Let Hu : 0 <= u := u_pos _ _ _ _ ok.
Let Heta1 : 0 <= eta_1 := eta_pos _ _ _ _ ok.

Definition exponent_bound : R :=
  (1 + u) ^ 3 * Rabs (s_c - s) + ((1 + u) ^ 3 - 1) * (Rabs s + Rabs lse) + 3 * eta_1.

Lemma minus_error x y : format x -> format y -> exists d, Rabs d <= u /\ rnd (x - y) = (x - y) * (1 + d).
Proof. intros Fx Fy. apply (rnd_plus _ _ _ _ ok); [exact Fx|now apply format_opp]. Qed.

(** [exp (s - lse)]: the argument is subtracted once. *)
Theorem natural_exponent : Rabs (rnd (s_c - lse) - (s - lse)) <= exponent_bound.
Proof.
  destruct (minus_error s_c lse s_c_format lse_format) as [d [Hd E]]. rewrite E.
  replace ((s_c - lse) * (1 + d) - (s - lse)) with ((1 + d) * (s_c - s) + d * (s - lse)) by ring.
  assert (H1d : Rabs (1 + d) <= 1 + u).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_R1. lra. }
  assert (P := Rabs_pos (s_c - s)). assert (P1 := Rabs_pos s). assert (P2 := Rabs_pos lse).
  assert (T : Rabs (s - lse) <= Rabs s + Rabs lse).
  { unfold Rminus. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (G1 : Rabs (1 + d) * Rabs (s_c - s) <= (1 + u) * Rabs (s_c - s)) by (apply Rmult_le_compat_r; assumption).
  assert (G2 : Rabs d * Rabs (s - lse) <= u * (Rabs s + Rabs lse))
    by (apply Rmult_le_compat; try apply Rabs_pos; assumption).
  assert (U3 : 1 + u <= (1 + u) ^ 3) by (simpl; nra).
  assert (G3 : (1 + u) * Rabs (s_c - s) <= (1 + u) ^ 3 * Rabs (s_c - s)) by (apply Rmult_le_compat_r; lra).
  assert (G4 : u * (Rabs s + Rabs lse) <= ((1 + u) ^ 3 - 1) * (Rabs s + Rabs lse)) by (apply Rmult_le_compat_r; lra).
  unfold exponent_bound. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult. lra.
Qed.

(** [exp2 (s log2 e - lse log2 e)]: a rounded constant, two rounded products and a subtraction. *)
Theorem binary_exponent (log2_e : R) :
  Rabs (log2_e - / ln 2) <= u * / ln 2 ->
  Rabs (rnd (rnd (s_c * log2_e) - rnd (lse * log2_e)) * ln 2 - (s - lse)) <= exponent_bound.
Proof.
  intros HL.
  assert (L0 : 0 < ln 2) by (rewrite <- ln_1; apply ln_increasing; lra).
  assert (L1 : ln 2 <= 1).
  { rewrite <- (ln_exp 1). apply Rlt_le, ln_increasing; [lra|]. assert (E := exp_ineq1 1). lra. }
  destruct (minus_error (rnd (s_c * log2_e)) (rnd (lse * log2_e))
    (rnd_format _ _ _ _ ok _) (rnd_format _ _ _ _ ok _)) as [d [Hd E]]. rewrite E. clear E.
  set (d0 := log2_e * ln 2 - 1).
  assert (Hd0 : Rabs d0 <= u).
  { unfold d0. replace (log2_e * ln 2 - 1) with ((log2_e - / ln 2) * ln 2) by (field; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (ln 2)) by lra.
    apply (Rmult_le_reg_r (/ ln 2)); [now apply Rinv_0_lt_compat|].
    rewrite Rmult_assoc, Rinv_r, Rmult_1_r by lra. exact HL. }
  (* one product, in natural logarithms *)
  assert (Prod : forall x, Rabs (rnd (x * log2_e) * ln 2 - x) <= ((1 + u) ^ 2 - 1) * Rabs x + eta_1).
  { intros x. destruct (rnd_any _ _ _ _ ok (x * log2_e)) as [d1 [e1 [Hd1 [He1 E]]]]. rewrite E.
    replace ((x * log2_e * (1 + d1) + e1) * ln 2 - x) with (x * (d0 + d1 + d0 * d1) + e1 * ln 2)
      by (unfold d0; ring).
    assert (X : Rabs (d0 + d1 + d0 * d1) <= (1 + u) ^ 2 - 1).
    { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_mult.
      assert (Y := Rabs_triang d0 d1).
      assert (Rabs d0 * Rabs d1 <= u * u) by (apply Rmult_le_compat; try apply Rabs_pos; assumption).
      simpl. lra. }
    assert (Y : Rabs (e1 * ln 2) <= eta_1).
    { rewrite Rabs_mult, (Rabs_pos_eq (ln 2)) by lra. rewrite <- (Rmult_1_r eta_1).
      apply Rmult_le_compat; [apply Rabs_pos|lra|exact He1|exact L1]. }
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_mult, (Rmult_comm (Rabs x)).
    apply Rplus_le_compat; [|exact Y]. apply Rmult_le_compat_r; [apply Rabs_pos|exact X]. }
  assert (Ps := Prod s_c). assert (Pl := Prod lse).
  set (x2 := rnd (s_c * log2_e)) in *. set (y2 := rnd (lse * log2_e)) in *.
  replace ((x2 - y2) * (1 + d) * ln 2 - (s - lse))
    with ((1 + d) * ((x2 * ln 2 - s_c) - (y2 * ln 2 - lse) + (s_c - s)) + d * (s - lse)) by ring.
  assert (H1d : Rabs (1 + d) <= 1 + u).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_R1. lra. }
  assert (T : Rabs (s - lse) <= Rabs s + Rabs lse).
  { unfold Rminus. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Tsc : Rabs s_c <= Rabs s + Rabs (s_c - s)).
  { replace s_c with (s + (s_c - s)) at 1 by ring. apply Rabs_triang. }
  assert (T3 : Rabs (x2 * ln 2 - s_c - (y2 * ln 2 - lse) + (s_c - s))
    <= Rabs (x2 * ln 2 - s_c) + Rabs (y2 * ln 2 - lse) + Rabs (s_c - s)).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r.
    unfold Rminus at 1. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Q0 : 0 <= (1 + u) ^ 2 - 1) by (simpl; nra).
  assert (Ps' : ((1 + u) ^ 2 - 1) * Rabs s_c <= ((1 + u) ^ 2 - 1) * (Rabs s + Rabs (s_c - s)))
    by (apply Rmult_le_compat_l; assumption).
  assert (G1 : Rabs (1 + d) * Rabs (x2 * ln 2 - s_c - (y2 * ln 2 - lse) + (s_c - s))
    <= (1 + u) * (((1 + u) ^ 2 - 1) * (Rabs s + Rabs lse) + (1 + u) ^ 2 * Rabs (s_c - s) + 2 * eta_1)).
  { apply Rmult_le_compat; try apply Rabs_pos; [exact H1d|lra]. }
  assert (G2 : Rabs d * Rabs (s - lse) <= u * (Rabs s + Rabs lse))
    by (apply Rmult_le_compat; try apply Rabs_pos; assumption).
  assert (G3 : 2 * (1 + u) * eta_1 <= 3 * eta_1) by (apply Rmult_le_compat_r; lra).
  unfold exponent_bound. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult.
  replace ((1 + u) ^ 3) with ((1 + u) * (1 + u) ^ 2) by ring. lra.
Qed.

(** The weight of a kernel whose exponential errs by at most [2 exp_ulp u], relatively. *)
Lemma weight_from_exponent (exp_ulp exponent d bound : R) :
  0 <= exp_ulp -> 32 * (exp_ulp * exp_ulp) * u <= 1 ->
  Rabs (exponent - (s - lse)) <= exponent_bound -> Rabs d <= 2 * exp_ulp * u ->
  exponent_bound + 2 * exp_ulp * u + / 4 * u <= bound ->
  exists theta, Rabs theta <= bound /\ exp exponent * (1 + d) = exp (s - lse) * exp theta.
Proof.
  intros Hk Hku He Hd HB.
  set (x := 2 * exp_ulp * u) in *.
  assert (Hx0 : 0 <= x) by (unfold x; apply Rmult_le_pos; lra).
  assert (Hxx : x * x <= / 8 * u).
  { unfold x. replace (2 * exp_ulp * u * (2 * exp_ulp * u)) with (/ 8 * (32 * (exp_ulp * exp_ulp) * u) * u) by field.
    apply Rmult_le_compat_r; [exact Hu|]. lra. }
  assert (Hx : x <= / 2) by (apply Rsqr_incr_0_var; [unfold Rsqr; lra|lra]).
  destruct (exp_bounds_log d x (conj Hx0 Hx) Hd) as [P L].
  exists ((exponent - (s - lse)) + ln (1 + d)). split.
  - refine (Rle_trans _ _ _ (Rabs_triang _ _) _). lra.
  - rewrite <- exp_plus. replace (s - lse + (exponent - (s - lse) + ln (1 + d))) with (exponent + ln (1 + d)) by ring.
    now rewrite exp_plus, exp_ln.
Qed.

End Exponent.

(** * The kernel *)

Section Kernel.

(** The arithmetic of matrix products, and that of single operations. *)
Variables (format_p : R -> Prop) (rnd_p : R -> R) (u_p eta_p : R).
Variables (format : R -> Prop) (rnd : R -> R) (u eta_1 : R).
Hypothesis ok_p : rounding format_p rnd_p u_p eta_p.
Hypothesis ok : rounding format rnd u eta_1.

(** [eta] is the smallest normal number: a rounding that underflows errs by at most [u eta]. *)
Variable eta : R.
Hypothesis u_le : u <= u_p.
Hypothesis u_small : u <= / 256.
Hypothesis eta_range : 0 <= eta <= / 64.
Hypothesis eta_p_le : eta_p <= u_p * eta.
Hypothesis eta_1_le : eta_1 <= u * eta.

(** The query and the key, feature by feature, and the tree that adds their products. *)
Variables (xys : list (R * R)) (t : tree).
Hypothesis t_multiplies : multiplies xys t.
Let D := length xys.
Hypothesis few : INR (D + 8) * u_p < 1.

(** The scale and its rounded value; the bias; [lse]; a bound of the scores. *)
Variables (scale scale_r : R) (bias : option R) (lse M : R).
Hypothesis scale_rounded : Rabs (scale_r - scale) <= u * Rabs scale.
Hypothesis bias_format : match bias with None => True | Some b => format b end.
Hypothesis lse_size : u * Rabs lse <= / 16.

(** What is true. *)
Let z := scale * dot_exact xys.
Let s := z + match bias with None => 0 | Some b => b end.
Hypothesis M_largest : Rabs s <= M.

(** What the kernel computes. *)
Let z_c := rnd (scale_r * computed rnd_p t).
Let s_c := match bias with None => z_c | Some b => rnd (z_c + b) end.

Let Hu : 0 <= u := u_pos _ _ _ _ ok.
Let Hup : 0 <= u_p := u_pos _ _ _ _ ok_p.
Let Hetap : 0 <= eta_p := eta_pos _ _ _ _ ok_p.
Let Heta1 : 0 <= eta_1 := eta_pos _ _ _ _ ok.

Let A := dot_abs xys.

Lemma A_pos : 0 <= A. Proof. apply sum_abs_pos. Qed.

Lemma dot_error :
  Rabs (computed rnd_p t - dot_exact xys)
    <= ((1 + u_p) ^ D - 1) * A + INR D * (eta_p * (1 + u_p) ^ D).
Proof.
  assert (Q := multiplies_terms _ _ t_multiplies). destruct t_multiplies as [Hn Hp].
  assert (F : Forall format_p (numbers t)) by (rewrite Hn; constructor).
  assert (E := tree_error _ _ _ _ ok_p t F).
  rewrite (sum_permutation _ _ Q), (sum_abs_permutation _ _ Q), (Permutation_length Hp) in E.
  fold (dot_exact xys) (dot_abs xys) D in E. fold A in E.
  assert (R1 : (roundings t <= D)%nat).
  { assert (L := Permutation_length Q). rewrite map_length in L. fold D in L. rewrite <- L.
    apply roundings_of_terms. }
  assert (P1 := power_mono u_p _ _ Hup R1).
  assert (P2 : (1 + u_p) ^ Nat.pred (roundings t) <= (1 + u_p) ^ D) by (apply power_mono; [exact Hup|lia]).
  refine (Rle_trans _ _ _ E _). apply Rplus_le_compat.
  - apply Rmult_le_compat_r; [apply A_pos|lra].
  - apply Rmult_le_compat_l; [apply pos_INR|]. apply Rmult_le_compat_l; [exact Hetap|exact P2].
Qed.

Lemma z_error :
  Rabs (z_c - z)
    <= Rabs scale * (((1 + u_p) ^ (D + 2) - 1) * A + INR D * (eta_p * (1 + u_p) ^ (D + 2))) + eta_1.
Proof.
  destruct (rnd_any _ _ _ _ ok (scale_r * computed rnd_p t)) as [d [e [Hd [He E]]]].
  unfold z_c, z. rewrite E. set (v := computed rnd_p t). set (S := dot_exact xys).
  replace (scale_r * v * (1 + d) + e - scale * S)
    with (scale_r * (1 + d) * (v - S) + (scale_r * (1 + d) - scale) * S + e) by ring.
  assert (HS : Rabs S <= A) by apply Rabs_sum_le.
  assert (Hv : Rabs (v - S) <= ((1 + u_p) ^ D - 1) * A + INR D * (eta_p * (1 + u_p) ^ D)) by apply dot_error.
  assert (N := Rabs_pos scale).
  assert (Hr : Rabs scale_r <= (1 + u_p) * Rabs scale).
  { replace scale_r with (scale + (scale_r - scale)) by ring. refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
    assert (u * Rabs scale <= u_p * Rabs scale) by (apply Rmult_le_compat_r; assumption). lra. }
  assert (H1d : Rabs (1 + d) <= 1 + u_p).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_R1. lra. }
  assert (F1 : Rabs (scale_r * (1 + d)) <= (1 + u_p) ^ 2 * Rabs scale).
  { rewrite Rabs_mult. replace ((1 + u_p) ^ 2 * Rabs scale) with ((1 + u_p) * Rabs scale * (1 + u_p)) by ring.
    apply Rmult_le_compat; try apply Rabs_pos; assumption. }
  assert (F2 : Rabs (scale_r * (1 + d) - scale) <= ((1 + u_p) ^ 2 - 1) * Rabs scale).
  { replace (scale_r * (1 + d) - scale) with ((scale_r - scale) + scale_r * d) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite (Rabs_mult scale_r).
    assert (u * Rabs scale <= u_p * Rabs scale) by (apply Rmult_le_compat_r; assumption).
    assert (Rabs scale_r * Rabs d <= (1 + u_p) * Rabs scale * u_p)
      by (apply Rmult_le_compat; try apply Rabs_pos; lra).
    simpl. lra. }
  assert (G1 : Rabs (scale_r * (1 + d) * (v - S))
    <= (1 + u_p) ^ 2 * Rabs scale * (((1 + u_p) ^ D - 1) * A + INR D * (eta_p * (1 + u_p) ^ D))).
  { rewrite Rabs_mult. apply Rmult_le_compat; try apply Rabs_pos; assumption. }
  assert (G2 : Rabs ((scale_r * (1 + d) - scale) * S) <= ((1 + u_p) ^ 2 - 1) * Rabs scale * A).
  { rewrite Rabs_mult. apply Rmult_le_compat; try apply Rabs_pos; assumption. }
  refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat; [|exact He].
  refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
  rewrite pow_add. nra.
Qed.

(** The error of the score, [b] being 1 with a bias and 0 without. *)
Let with_bias : R := match bias with None => 0 | Some _ => 1 end.

Lemma s_error : Rabs (s_c - s) <= (1 + u) * Rabs (z_c - z) + with_bias * (u * Rabs s).
Proof.
  unfold s_c, s, with_bias. destruct bias as [b|].
  - destruct (rnd_plus _ _ _ _ ok z_c b (rnd_format _ _ _ _ ok _) bias_format) as [d [Hd E]]. rewrite E.
    replace ((z_c + b) * (1 + d) - (z + b)) with ((1 + d) * (z_c - z) + d * (z + b)) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult, Rmult_1_l. apply Rplus_le_compat.
    + apply Rmult_le_compat_r; [apply Rabs_pos|]. refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
      rewrite Rabs_R1. lra.
    + apply Rmult_le_compat_r; [apply Rabs_pos|exact Hd].
  - rewrite Rplus_0_r, Rmult_0_l, Rplus_0_r. rewrite <- (Rmult_1_l (Rabs (z_c - z))) at 1.
    apply Rmult_le_compat_r; [apply Rabs_pos|lra].
Qed.

(** ** The weight *)

(** The bound that the crate adds up. *)
Definition weight_bound (exp_ulp : R) : R :=
  Rabs scale * (gamma u_p (D + 8) * A + INR D * eta) + 5 / 2 * (u * Rabs z) + with_bias * (u * Rabs s)
  + (3 * u * (Rabs s + M) + (2 * exp_ulp + 1) * u) + 3 * u * (Rabs lse + M).

Lemma exponent_within_bound exp_ulp :
  0 <= exp_ulp ->
  exponent_bound u eta_1 s_c s lse + 2 * exp_ulp * u + 3 / 4 * u <= weight_bound exp_ulp + / 2 * u.
Proof.
  intros Hk. unfold exponent_bound, weight_bound.
  assert (Hz := z_error). assert (Hs := s_error).
  assert (P1 := Rabs_pos s). assert (P2 := Rabs_pos lse). assert (P3 := Rabs_pos scale). assert (PA := A_pos).
  assert (Pz := Rabs_pos z). assert (Pzc := Rabs_pos (z_c - z)).
  assert (PM : 0 <= M) by (refine (Rle_trans _ _ _ P1 M_largest)).
  assert (Pb : 0 <= with_bias <= 1) by (unfold with_bias; destruct bias; lra).
  assert (N := pos_INR D).
  assert (Huu : 0 <= u * u) by (apply Rmult_le_pos; assumption).
  assert (Huuu : 0 <= u * (u * u)) by (apply Rmult_le_pos; assumption).
  assert (Hu2 : u * u <= / 256 * u) by (apply Rmult_le_compat_r; assumption).
  assert (Hu3 : u * (u * u) <= / 256 * (u * u)) by (apply Rmult_le_compat_r; [nra|assumption]).
  assert (U3 : (1 + u) ^ 3 - 1 = 3 * u + 3 * (u * u) + u * (u * u)) by ring.
  (* the score *)
  set (Q := 1 + u_p) in *.
  assert (HQ : 1 + u <= Q) by (unfold Q; lra).
  assert (Q4 : (1 + u) ^ 4 <= Q ^ 4) by (apply pow_incr; lra).
  assert (Q1 : 1 <= Q ^ (D + 2)) by (apply pow_R1_Rle; unfold Q; lra).
  set (Z := Rabs scale * ((Q ^ (D + 2) - 1) * A + INR D * (eta_p * Q ^ (D + 2)))) in *.
  assert (HZ0 : 0 <= Z).
  { apply Rmult_le_pos; [exact P3|]. apply Rplus_le_le_0_compat.
    - apply Rmult_le_pos; [lra|exact PA].
    - apply Rmult_le_pos; [exact N|]. apply Rmult_le_pos; [exact Hetap|lra]. }
  assert (HZ : Q ^ 4 * Z <= Rabs scale * (gamma u_p (D + 8) * A + INR D * eta)).
  { unfold Z. replace (Q ^ 4 * (Rabs scale * ((Q ^ (D + 2) - 1) * A + INR D * (eta_p * Q ^ (D + 2)))))
      with (Rabs scale * ((Q ^ (D + 6) - Q ^ 4) * A + INR D * (eta_p * Q ^ (D + 6))))
      by (rewrite !pow_add; ring).
    apply Rmult_le_compat_l; [exact P3|].
    assert (Q41 : 1 <= Q ^ 4) by (apply pow_R1_Rle; unfold Q; lra).
    assert (F6 : INR (D + 6) * u_p < 1).
    { refine (Rle_lt_trans _ _ _ _ few). apply Rmult_le_compat_r; [exact Hup|apply le_INR; lia]. }
    assert (G := power_le_gamma u_p (D + 6) Hup F6). fold Q in G.
    assert (G' := gamma_mono u_p (D + 6) (D + 8) Hup ltac:(lia) few).
    apply Rplus_le_compat.
    - apply Rmult_le_compat_r; [exact PA|lra].
    - apply Rmult_le_compat_l; [exact N|].
      assert (T := power_times_le u_p (D + 6) Hup). fold Q in T.
      assert (F : 2 * u_p <= 1 - INR (D + 6) * u_p).
      { replace (D + 8)%nat with (D + 6 + 2)%nat in few by lia. rewrite plus_INR in few. simpl in few. lra. }
      assert (Q6 : 0 <= Q ^ (D + 6)) by (apply pow_le; unfold Q; lra).
      assert (T' : Q ^ (D + 6) * (2 * u_p) <= 1).
      { refine (Rle_trans _ _ _ _ T). apply Rmult_le_compat_l; assumption. }
      apply (Rle_trans _ (u_p * eta * Q ^ (D + 6))); [apply Rmult_le_compat_r; assumption|].
      replace (u_p * eta * Q ^ (D + 6)) with (eta * (Q ^ (D + 6) * u_p)) by ring.
      rewrite <- (Rmult_1_r eta) at 2. apply Rmult_le_compat_l; lra. }
  assert (E1 : (1 + u) ^ 3 * Rabs (s_c - s)
    <= (1 + u) ^ 4 * Rabs (z_c - z) + (1 + u) ^ 3 * (with_bias * (u * Rabs s))).
  { replace ((1 + u) ^ 4 * Rabs (z_c - z) + (1 + u) ^ 3 * (with_bias * (u * Rabs s)))
      with ((1 + u) ^ 3 * ((1 + u) * Rabs (z_c - z) + with_bias * (u * Rabs s))) by ring.
    apply Rmult_le_compat_l; [apply pow_le; lra|exact Hs]. }
  assert (U4 : (1 + u) ^ 4 <= 2).
  { replace ((1 + u) ^ 4) with (1 + 4 * u + 6 * (u * u) + 4 * (u * (u * u)) + u * u * (u * u)) by ring.
    assert (u * u * (u * u) <= / 256 * (u * u)) by (apply Rmult_le_compat_r; nra). lra. }
  assert (E2 : (1 + u) ^ 4 * Rabs (z_c - z) <= Q ^ 4 * Z + 2 * eta_1).
  { apply (Rle_trans _ ((1 + u) ^ 4 * (Z + eta_1))).
    - apply Rmult_le_compat_l; [apply pow_le; lra|exact Hz].
    - rewrite Rmult_plus_distr_l. apply Rplus_le_compat; apply Rmult_le_compat_r; assumption. }
  assert (Heta : eta_1 <= / 64 * u).
  { refine (Rle_trans _ _ _ eta_1_le _). rewrite Rmult_comm. apply Rmult_le_compat_r; [exact Hu|apply eta_range]. }
  (* the terms in |s| and |lse| *)
  assert (E3 : ((1 + u) ^ 3 - 1) * Rabs s <= 3 * u * Rabs s + 4 * / 256 * (u * Rabs s)).
  { rewrite U3. assert ((3 * (u * u) + u * (u * u)) * Rabs s <= 4 * / 256 * u * Rabs s)
      by (apply Rmult_le_compat_r; [exact P1|lra]). lra. }
  assert (E4 : ((1 + u) ^ 3 - 1) * Rabs lse <= 3 * u * Rabs lse + / 4 * u).
  { rewrite U3. assert ((3 * (u * u) + u * (u * u)) * Rabs lse <= 4 * (u * u) * Rabs lse)
      by (apply Rmult_le_compat_r; [exact P2|lra]).
    assert (u * (u * Rabs lse) <= u * / 16) by (apply Rmult_le_compat_l; assumption). lra. }
  assert (Pus : 0 <= u * Rabs s) by (apply Rmult_le_pos; assumption).
  assert (E5 : (1 + u) ^ 3 * (with_bias * (u * Rabs s)) <= with_bias * (u * Rabs s) + u * Rabs s).
  { assert (X : ((1 + u) ^ 3 - 1) * (with_bias * (u * Rabs s)) <= 1 * (1 * (u * Rabs s))).
    { apply Rmult_le_compat; [lra|apply Rmult_le_pos; lra|rewrite U3; lra|].
      apply Rmult_le_compat_r; [exact Pus|lra]. }
    lra. }
  assert (E6 : u * Rabs s <= u * M) by (apply Rmult_le_compat_l; assumption).
  assert (E7 : 0 <= u * Rabs z) by (apply Rmult_le_pos; assumption).
  lra.
Qed.

(** The weight of a kernel whose exponential errs by at most [2 exp_ulp u], relatively. *)
Theorem weight_error (exp_ulp exponent d w_c : R) :
  0 <= exp_ulp -> 32 * (exp_ulp * exp_ulp) * u <= 1 ->
  Rabs (exponent - (s - lse)) <= exponent_bound u eta_1 s_c s lse ->
  Rabs d <= 2 * exp_ulp * u -> w_c = exp exponent * (1 + d) ->
  exists theta, Rabs theta <= weight_bound exp_ulp /\ w_c = exp (s - lse) * exp theta.
Proof.
  intros Hk Hku He Hd ->.
  apply (weight_from_exponent format rnd u eta_1 ok u_small s_c s lse exp_ulp exponent d); try assumption.
  assert (B := exponent_within_bound exp_ulp Hk). lra.
Qed.

End Kernel.

(** The absolute error of a weight whose logarithm errs by at most [b]: [w (e^b - 1)]. *)
Lemma weight_absolute_error w theta b :
  0 <= w -> Rabs theta <= b -> Rabs (w * exp theta - w) <= w * (exp b - 1).
Proof.
  intros Hw H. replace (w * exp theta - w) with (w * (exp theta - 1)) by ring.
  rewrite Rabs_mult, (Rabs_pos_eq w Hw). apply Rmult_le_compat_l; [exact Hw|].
  apply Rabs_le_inv in H.
  assert (U : exp theta <= exp b).
  { destruct (Rle_lt_or_eq_dec _ _ (proj2 H)) as [L|E]; [apply Rlt_le, exp_increasing, L|rewrite E; apply Rle_refl]. }
  assert (V : exp (- b) <= exp theta).
  { destruct (Rle_lt_or_eq_dec _ _ (proj1 H)) as [L|E]; [apply Rlt_le, exp_increasing, L|rewrite E; apply Rle_refl]. }
  assert (W : 2 <= exp b + exp (- b)).
  { assert (Pb := exp_pos b). rewrite exp_Ropp.
    assert (S : 0 <= (exp b - 1) * (exp b - 1)) by apply Rle_0_sqr.
    apply (Rmult_le_reg_r (exp b)); [exact Pb|]. rewrite Rmult_plus_distr_r, Rinv_l by lra. lra. }
  apply Rabs_le. lra.
Qed.

(** A rounding within [u] is one within any larger unit roundoff: tensor cores are given [4 u]. *)
Lemma rounding_weaken format rnd u v eta : u <= v -> rounding format rnd u eta -> rounding format rnd v eta.
Proof.
  intros H ok. split.
  - assert (P := u_pos _ _ _ _ ok). lra.
  - apply (eta_pos _ _ _ _ ok).
  - apply (rnd_format _ _ _ _ ok).
  - apply (rnd_of_format _ _ _ _ ok).
  - intros x y Fx Fy. destruct (rnd_plus _ _ _ _ ok x y Fx Fy) as [d [Hd E]]. exists d. split; [lra|exact E].
  - intros x. destruct (rnd_any _ _ _ _ ok x) as [d [e [Hd [He E]]]]. exists d, e. split; [lra|auto].
Qed.

(** * In binary32

    The accumulator of the built-in recipes that name [f32], rounded to nearest with any rule for ties. The
    exponential is natural or binary, within [exp_ulp] units in the last place ([2 exp_ulp u], relatively). *)

Section Binary32.

Variable choice : Z -> bool.
Let rnd32 := round radix2 (FLT_exp (-149) 24) (Znearest choice).
Let format32 := flt (-149) 24.
Let u := bpow radix2 (-24).
Let smallest_normal := bpow radix2 (-126).

Theorem weight_error_in_binary32 (xys : list (R * R)) (t : tree) (scale scale_r lse M exp_ulp d w_c : R)
    (bias : option R) :
  multiplies xys t -> INR (length xys + 8) * u < 1 ->
  Rabs (scale_r - scale) <= u * Rabs scale ->
  match bias with None => True | Some b => format32 b end ->
  format32 lse -> u * Rabs lse <= / 16 ->
  let z := scale * dot_exact xys in
  let s := z + match bias with None => 0 | Some b => b end in
  let z_c := rnd32 (scale_r * computed rnd32 t) in
  let s_c := match bias with None => z_c | Some b => rnd32 (z_c + b) end in
  Rabs s <= M ->
  0 <= exp_ulp <= 512 -> Rabs d <= 2 * exp_ulp * u ->
  w_c = exp (rnd32 (s_c - lse)) * (1 + d) \/
  (exists log2_e, Rabs (log2_e - / ln 2) <= u * / ln 2 /\
     w_c = Rpower 2 (rnd32 (rnd32 (s_c * log2_e) - rnd32 (lse * log2_e))) * (1 + d)) ->
  exists theta, w_c = exp (s - lse) * exp theta /\
    Rabs theta <= Rabs scale * (gamma u (length xys + 8) * dot_abs xys + INR (length xys) * smallest_normal)
      + 5 / 2 * (u * Rabs z) + match bias with None => 0 | Some _ => 1 end * (u * Rabs s)
      + (3 * u * (Rabs s + M) + (2 * exp_ulp + 1) * u) + 3 * u * (Rabs lse + M).
Proof.
  intros Ht Hn Hscale Hb Hlse Hlu z s z_c s_c HM Hk Hd Hw.
  assert (ok := nearest_is_a_rounding (-149) 24 eq_refl choice).
  change (unit_nearest 24) with u in ok. change (round radix2 (FLT_exp (-149) 24) (Znearest choice)) with rnd32 in ok.
  fold format32 in ok.
  assert (Fopp : forall x, format32 x -> format32 (- x)) by (intros x; apply generic_format_opp).
  assert (Eeta : half_least (-149) <= u * smallest_normal).
  { unfold half_least, u, smallest_normal. rewrite <- bpow_plus. apply Rle_refl. }
  assert (Hu : u = / 16777216) by reflexivity.
  assert (Husmall : u <= / 256) by (rewrite Hu; lra).
  assert (Hsn : 0 <= smallest_normal <= / 64).
  { split; [apply bpow_ge_0|]. replace (/ 64) with (bpow radix2 (-6)) by reflexivity. apply bpow_le. lia. }
  assert (Hkk : 32 * (exp_ulp * exp_ulp) * u <= 1).
  { assert (exp_ulp * exp_ulp <= 512 * 512) by (apply Rmult_le_compat; lra). rewrite Hu. lra. }
  assert (Finish : forall exponent,
    Rabs (exponent - (s - lse)) <= exponent_bound u (half_least (-149)) s_c s lse ->
    w_c = exp exponent * (1 + d) -> exists theta, w_c = exp (s - lse) * exp theta /\
    Rabs theta <= Rabs scale * (gamma u (length xys + 8) * dot_abs xys + INR (length xys) * smallest_normal)
      + 5 / 2 * (u * Rabs z) + match bias with None => 0 | Some _ => 1 end * (u * Rabs s)
      + (3 * u * (Rabs s + M) + (2 * exp_ulp + 1) * u) + 3 * u * (Rabs lse + M)).
  { intros exponent He Ew.
    destruct (weight_error format32 rnd32 u (half_least (-149)) format32 rnd32 u (half_least (-149)) ok ok
      smallest_normal (Rle_refl u) Husmall Hsn Eeta Eeta xys t Ht Hn scale scale_r bias lse M
      Hscale Hb Hlu HM exp_ulp exponent d w_c (proj1 Hk) Hkk He Hd Ew) as [theta [B E]].
    exists theta. split; [exact E|exact B]. }
  assert (Fs : format32 s_c) by (unfold s_c; destruct bias; apply (rnd_format _ _ _ _ ok)).
  destruct Hw as [Ew|[log2_e [HL Ew]]].
  - apply (Finish (rnd32 (s_c - lse))); [|exact Ew].
    exact (natural_exponent format32 rnd32 u (half_least (-149)) ok Fopp s_c s lse Fs Hlse).
  - apply (Finish (rnd32 (rnd32 (s_c * log2_e) - rnd32 (lse * log2_e)) * ln 2)); [|exact Ew].
    exact (binary_exponent format32 rnd32 u (half_least (-149)) ok Fopp Husmall s_c s lse log2_e HL).
Qed.

End Binary32.
