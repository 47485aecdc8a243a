(** The stage "score and exp" of the error bounds with a softcap.

    As in [ScoreError], but the scaled score is capped: [s = cap tanh (z / cap) + bias]. The kernel divides by [cap],
    takes a [tanh] that errs by at most [2 tanh_ulp u], relatively, and multiplies by [cap], each rounded once. With

      [e = |scale| (gamma_(D+8) sum |q k| + D eta) + 2.5 u |z|],

    the weight is the true one times [e^theta], and

      [|theta| <= min (1, sech^2 (z / cap) exp (2 e / cap)) e + (2 tanh_ulp + 4) u |s before bias|
                  + u |s| (with a bias) + 3 u (|s| + M) + (2 exp_ulp + 1) u + 3 u (|lse| + M)],

    the sum of the worst cases that the crate adds for an entry ([Scores::entry_of], scores not stored narrow). *)

From Coq Require Import Reals ZArith List Permutation Lia Lra Psatz.
From SusOracle Require Import Sums ScoreError SoftmaxError.
Import ListNotations.

Open Scope R_scope.

Section Softcap.

(** The arithmetic of matrix products, and that of single operations, as in [ScoreError]. *)
Variables (format_p : R -> Prop) (rnd_p : R -> R) (u_p eta_p : R).
Variables (format : R -> Prop) (rnd : R -> R) (u eta_1 : R).
Hypothesis ok_p : rounding format_p rnd_p u_p eta_p.
Hypothesis ok : rounding format rnd u eta_1.
Variable eta : R.
Hypothesis u_le : u <= u_p.
Hypothesis u_small : u <= / 256.
Hypothesis eta_range : 0 <= eta <= / 64.
Hypothesis eta_p_le : eta_p <= u_p * eta.
Hypothesis eta_1_le : eta_1 <= u * eta.

Variables (xys : list (R * R)) (t : tree).
Hypothesis t_multiplies : multiplies xys t.
Let D := length xys.
Hypothesis few : INR (D + 8) * u_p < 1.

Variables (scale scale_r cap tanh_ulp d_tanh : R) (bias : option R) (lse M : R).
Hypothesis scale_rounded : Rabs (scale_r - scale) <= u * Rabs scale.
Hypothesis cap_pos : 0 < cap.
(** Underflow of the scaled score is covered by what the bound has for the products. *)
Hypothesis cap_size : (2 + cap) * u <= / 4 * (Rabs scale * INR D).
Hypothesis tanh_ulp_pos : 0 <= tanh_ulp.
Hypothesis tanh_ulp_size : (2 * tanh_ulp + 8) * u * INR (D + 3) <= 1.
Hypothesis tanh_rounded : Rabs d_tanh <= 2 * tanh_ulp * u.
Hypothesis bias_format : match bias with None => True | Some b => format b end.
Hypothesis lse_size : u * Rabs lse <= / 16.

(** What is true. *)
Let z := scale * dot_exact xys.
Let capped := cap * tanh (z / cap).
Let s := capped + match bias with None => 0 | Some b => b end.
Hypothesis M_largest : Rabs s <= M.

(** What the kernel computes. *)
Let z_c := rnd (scale_r * computed rnd_p t).
Let y_c := rnd (z_c / cap).
Let capped_c := rnd (cap * (tanh y_c * (1 + d_tanh))).
Let s_c := match bias with None => capped_c | Some b => rnd (capped_c + b) end.

Let Hu : 0 <= u := u_pos _ _ _ _ ok.
Let Hup : 0 <= u_p := u_pos _ _ _ _ ok_p.
Let Hetap : 0 <= eta_p := eta_pos _ _ _ _ ok_p.
Let Heta1 : 0 <= eta_1 := eta_pos _ _ _ _ ok.
Let A := dot_abs xys.
Let with_bias : R := match bias with None => 0 | Some _ => 1 end.

(** The error before the softcap, as the crate adds it up. *)
Definition before_softcap : R :=
  Rabs scale * (gamma u_p (D + 8) * A + INR D * eta) + 5 / 2 * (u * Rabs z).
Let e := before_softcap.
Let L := lipschitz (z / cap) (e / cap).

Definition softcap_weight_bound (exp_ulp : R) : R :=
  L * e + (2 * tanh_ulp + 4) * u * Rabs capped + with_bias * (u * Rabs s)
  + (3 * u * (Rabs s + M) + (2 * exp_ulp + 1) * u) + 3 * u * (Rabs lse + M).

(** The relative errors of [tanh], of the product with the cap and of what follows. *)
Let rho := (2 * tanh_ulp + 1) * u + 2 * tanh_ulp * u * u.

Lemma rho_range : 0 <= rho /\ (1 + u) ^ 4 * (1 + rho) <= 1 + (2 * tanh_ulp + 8) * u
  /\ (1 + u) ^ 4 * rho <= (2 * tanh_ulp + 4) * u /\ (2 * tanh_ulp + 8) * u <= / 3.
Proof.
  assert (N : 3 <= INR (D + 3)) by (rewrite plus_INR; simpl; assert (P := pos_INR D); lra).
  assert (K0 : 0 <= tanh_ulp * u) by (apply Rmult_le_pos; assumption).
  assert (K : (2 * tanh_ulp + 8) * u <= / 3).
  { assert (X : (2 * tanh_ulp + 8) * u * 3 <= (2 * tanh_ulp + 8) * u * INR (D + 3)).
    { apply Rmult_le_compat_l; [|exact N]. apply Rmult_le_pos; lra. }
    lra. }
  assert (U2 : u * u <= / 256 * u) by (apply Rmult_le_compat_r; assumption).
  assert (Huu : 0 <= u * u) by (apply Rmult_le_pos; assumption).
  assert (U4 : (1 + u) ^ 4 <= 1 + 41 / 10 * u).
  { replace ((1 + u) ^ 4) with (1 + 4 * u + 6 * (u * u) + 4 * (u * u) * u + (u * u) * (u * u)) by ring.
    assert (4 * (u * u) * u <= 4 * (u * u) * / 256) by (apply Rmult_le_compat_l; lra).
    assert ((u * u) * (u * u) <= (u * u) * (/ 256 * u)) by (apply Rmult_le_compat_l; lra).
    assert ((u * u) * (/ 256 * u) <= (u * u) * (/ 256 * / 256)) by (apply Rmult_le_compat_l; lra). lra. }
  assert (U41 : 1 <= (1 + u) ^ 4) by (apply pow_R1_Rle; lra).
  assert (R0 : 0 <= rho).
  { unfold rho. assert (0 <= tanh_ulp * u * u) by (apply Rmult_le_pos; assumption). lra. }
  assert (Hk2 : tanh_ulp * u * u <= / 6 * u).
  { apply Rmult_le_compat_r; [exact Hu|]. lra. }
  assert (Hr : rho <= (2 * tanh_ulp + 4 / 3) * u) by (unfold rho; lra).
  assert (P1 : (1 + u) ^ 4 * rho <= (1 + 5 * u) * ((2 * tanh_ulp + 4 / 3) * u)).
  { apply Rmult_le_compat; lra. }
  assert (P2 : (1 + 5 * u) * ((2 * tanh_ulp + 4 / 3) * u)
    = (2 * tanh_ulp + 4 / 3) * u + 10 * (tanh_ulp * u * u) + 20 / 3 * (u * u)) by field.
  assert (Q : (1 + u) ^ 4 * rho <= (2 * tanh_ulp + 4 / 3 + 10 / 6 + 20 / 3 / 256) * u) by lra.
  split; [exact R0|split; [|split; [lra|exact K]]].
  replace ((1 + u) ^ 4 * (1 + rho)) with ((1 + u) ^ 4 + (1 + u) ^ 4 * rho) by ring. lra.
Qed.

(** The error of the argument of [tanh], times [cap]: it stays below [e] when the later roundings multiply it. *)
Lemma before_tanh :
  let E := Rabs (cap * y_c - z) in
  (1 + (2 * tanh_ulp + 8) * u) * E <= e.
Proof.
  intros E. assert (Hz := z_error format_p rnd_p u_p eta_p format rnd u eta_1 ok_p ok u_le xys t
    t_multiplies scale scale_r scale_rounded). fold z_c z D A in Hz.
  set (Z := Rabs scale * (((1 + u_p) ^ (D + 2) - 1) * A + INR D * (eta_p * (1 + u_p) ^ (D + 2)))) in *.
  destruct (rnd_any _ _ _ _ ok (z_c / cap)) as [d [e1 [Hd [He1 Ey]]]].
  assert (HE : E <= (1 + u) * Rabs (z_c - z) + u * Rabs z + cap * eta_1).
  { unfold E, y_c. rewrite Ey.
    replace (cap * (z_c / cap * (1 + d) + e1) - z) with ((1 + d) * (z_c - z) + d * z + cap * e1) by (field; lra).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite (Rabs_mult cap), (Rabs_pos_eq cap) by lra.
    apply Rplus_le_compat; [|apply Rmult_le_compat_l; [lra|exact He1]].
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult.
    apply Rplus_le_compat; apply Rmult_le_compat_r; try apply Rabs_pos; [|exact Hd].
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_R1. lra. }
  destruct rho_range as [_ [_ [_ K]]]. set (x := (2 * tanh_ulp + 8) * u) in *.
  assert (Hx0 : 0 <= x) by (unfold x; apply Rmult_le_pos; lra).
  assert (P3 := Rabs_pos scale). assert (PA : 0 <= A) by apply sum_abs_pos. assert (N := pos_INR D).
  assert (Pz := Rabs_pos z). assert (Puz : 0 <= u * Rabs z) by (apply Rmult_le_pos; assumption).
  set (Q := 1 + u_p) in *.
  (* the products *)
  assert (F3 : INR (D + 3) * u_p < 1).
  { refine (Rle_lt_trans _ _ _ _ few). apply Rmult_le_compat_r; [exact Hup|apply le_INR; lia]. }
  assert (G3 := power_le_gamma u_p (D + 3) Hup F3). fold Q in G3.
  assert (T := power_times_le u_p (D + 3) Hup). fold Q in T.
  assert (F5 : 5 * u_p <= 1 - INR (D + 3) * u_p).
  { replace (D + 8)%nat with (D + 3 + 5)%nat in few by lia. rewrite plus_INR in few. simpl (INR 5) in few. lra. }
  assert (Q3 : 0 <= Q ^ (D + 3)) by (apply pow_le; unfold Q; lra).
  assert (T5 : Q ^ (D + 3) * (5 * u_p) <= 1).
  { refine (Rle_trans _ _ _ _ T). apply Rmult_le_compat_l; assumption. }
  assert (Gx : (1 + x) * gamma u_p (D + 3) <= gamma u_p (D + 8)).
  { unfold gamma. set (n := INR (D + 3)) in *.
    assert (E8 : INR (D + 8) = n + 5).
    { unfold n. replace (D + 8)%nat with (D + 3 + 5)%nat by lia. rewrite plus_INR. simpl (INR 5). lra. }
    rewrite E8 in *. assert (Hn : 0 <= n) by apply pos_INR.
    assert (Hxn : x * n <= 1) by (unfold x, n; exact tanh_ulp_size).
    unfold Rdiv. rewrite <- Rmult_assoc. apply Rmult_le_compat.
    - apply Rmult_le_pos; [lra|apply Rmult_le_pos; assumption].
    - apply Rlt_le, Rinv_0_lt_compat. lra.
    - replace ((1 + x) * (n * u_p)) with ((n + x * n) * u_p) by ring. apply Rmult_le_compat_r; lra.
    - apply Rinv_le_contravar; lra. }
  assert (Zx : (1 + x) * ((1 + u) * Z) <= Rabs scale * (gamma u_p (D + 8) * A + / 2 * (INR D * eta))).
  { unfold Z. replace ((1 + x) * ((1 + u) * (Rabs scale * ((Q ^ (D + 2) - 1) * A + INR D * (eta_p * Q ^ (D + 2))))))
      with (Rabs scale * ((1 + x) * ((1 + u) * (Q ^ (D + 2) - 1)) * A
        + INR D * ((1 + x) * (eta_p * ((1 + u) * Q ^ (D + 2)))))) by ring.
    apply Rmult_le_compat_l; [exact P3|].
    assert (HQ : 1 + u <= Q) by (unfold Q; lra). assert (HQ1 : 1 <= Q) by lra.
    assert (Q2 : 1 <= Q ^ (D + 2)) by (apply pow_R1_Rle; unfold Q; lra).
    assert (E3 : Q ^ (D + 3) = Q * Q ^ (D + 2)) by (replace (D + 3)%nat with (S (D + 2)) by lia; reflexivity).
    assert (S1 : (1 + u) * (Q ^ (D + 2) - 1) <= Q ^ (D + 3) - 1).
    { rewrite E3. assert ((1 + u) * (Q ^ (D + 2) - 1) <= Q * (Q ^ (D + 2) - 1))
        by (apply Rmult_le_compat_r; lra). lra. }
    assert (S2 : (1 + u) * Q ^ (D + 2) <= Q ^ (D + 3)).
    { rewrite E3. apply Rmult_le_compat_r; lra. }
    apply Rplus_le_compat.
    - apply Rmult_le_compat_r; [exact PA|]. refine (Rle_trans _ _ _ _ Gx). apply Rmult_le_compat_l; lra.
    - replace (/ 2 * (INR D * eta)) with (INR D * (/ 2 * eta)) by ring. apply Rmult_le_compat_l; [exact N|].
      apply (Rle_trans _ (4 / 3 * (u_p * eta * Q ^ (D + 3)))).
      + apply Rmult_le_compat; [lra| |lra|].
        * apply Rmult_le_pos; [exact Hetap|]. apply Rmult_le_pos; lra.
        * apply Rmult_le_compat; [exact Hetap|apply Rmult_le_pos; lra|exact eta_p_le|exact S2].
      + replace (4 / 3 * (u_p * eta * Q ^ (D + 3))) with (eta * (4 / 15 * (Q ^ (D + 3) * (5 * u_p)))) by field.
        rewrite (Rmult_comm (/ 2)). apply Rmult_le_compat_l; [apply eta_range|lra]. }
  (* underflow of the scaled score and of the quotient *)
  assert (Un : (1 + x) * ((1 + u) * eta_1 + cap * eta_1) <= Rabs scale * (/ 2 * (INR D * eta))).
  { apply (Rle_trans _ (2 * ((2 + cap) * (u * eta)))).
    - apply Rmult_le_compat; [lra| |lra|].
      + apply Rplus_le_le_0_compat; apply Rmult_le_pos; lra.
      + rewrite <- Rmult_plus_distr_r. apply Rmult_le_compat; lra.
    - replace (2 * ((2 + cap) * (u * eta))) with (2 * ((2 + cap) * u) * eta) by ring.
      replace (Rabs scale * (/ 2 * (INR D * eta))) with (2 * (/ 4 * (Rabs scale * INR D)) * eta) by field.
      apply Rmult_le_compat_r; [apply eta_range|lra]. }
  assert (Zz : (1 + x) * (u * Rabs z) <= 4 / 3 * (u * Rabs z)) by (apply Rmult_le_compat_r; lra).
  assert (HE' : (1 + x) * E <= (1 + x) * ((1 + u) * Z) + (1 + x) * ((1 + u) * eta_1 + cap * eta_1)
    + (1 + x) * (u * Rabs z)).
  { rewrite <- !Rmult_plus_distr_l. apply Rmult_le_compat_l; [lra|].
    refine (Rle_trans _ _ _ HE _).
    assert ((1 + u) * Rabs (z_c - z) <= (1 + u) * (Z + eta_1)) by (apply Rmult_le_compat_l; [lra|exact Hz]). lra. }
  unfold e, before_softcap. lra.
Qed.

Lemma lipschitz_range y x : 0 <= lipschitz y x.
Proof.
  unfold lipschitz. apply Rmin_glb; [lra|]. apply Rmult_le_pos; [apply Rlt_le, sech_squared_pos|].
  apply Rlt_le, exp_pos.
Qed.

Lemma lipschitz_mono y x x' : x <= x' -> lipschitz y x <= lipschitz y x'.
Proof.
  intros H. unfold lipschitz. apply Rle_min_compat_l. apply Rmult_le_compat_l; [apply Rlt_le, sech_squared_pos|].
  apply exp_monotone. lra.
Qed.

(** The error of the capped score, times the roundings that follow. *)
Lemma capped_error : (1 + u) ^ 4 * Rabs (capped_c - capped)
  <= L * e + (2 * tanh_ulp + 4) * u * Rabs capped + 2 * eta_1.
Proof.
  assert (B := before_tanh). simpl in B. set (E := Rabs (cap * y_c - z)) in *.
  destruct rho_range as [R0 [R1 [R2 K]]].
  assert (E0 : 0 <= E) by apply Rabs_pos.
  assert (Ee : E <= e).
  { refine (Rle_trans _ _ _ _ B). rewrite <- (Rmult_1_l E) at 1. apply Rmult_le_compat_r; [exact E0|].
    assert (0 <= (2 * tanh_ulp + 8) * u) by (apply Rmult_le_pos; lra). lra. }
  (* tanh of the computed argument *)
  assert (T : Rabs (cap * tanh y_c - capped) <= L * E).
  { assert (S := softcap_error cap z (cap * y_c) E cap_pos (Rle_refl _)).
    replace (cap * y_c / cap) with y_c in S by (field; lra). fold capped in S.
    refine (Rle_trans _ _ _ S _). apply Rmult_le_compat_r; [exact E0|].
    apply lipschitz_mono. apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat, cap_pos|exact Ee]. }
  destruct (rnd_any _ _ _ _ ok (cap * (tanh y_c * (1 + d_tanh)))) as [d [e1 [Hd [He1 Er]]]].
  assert (HC : Rabs (capped_c - cap * tanh y_c) <= rho * Rabs (cap * tanh y_c) + eta_1).
  { unfold capped_c. rewrite Er.
    replace (cap * (tanh y_c * (1 + d_tanh)) * (1 + d) + e1 - cap * tanh y_c)
      with ((d_tanh + d + d_tanh * d) * (cap * tanh y_c) + e1) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat; [|exact He1].
    rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|].
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite (Rabs_mult d_tanh).
    assert (X := Rabs_triang d_tanh d).
    assert (Rabs d_tanh * Rabs d <= 2 * tanh_ulp * u * u) by (apply Rmult_le_compat; try apply Rabs_pos; assumption).
    unfold rho. lra. }
  assert (HT : Rabs (cap * tanh y_c) <= Rabs capped + L * E).
  { replace (cap * tanh y_c) with (capped + (cap * tanh y_c - capped)) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). lra. }
  assert (HA : Rabs (capped_c - capped) <= (1 + rho) * (L * E) + rho * Rabs capped + eta_1).
  { replace (capped_c - capped) with ((capped_c - cap * tanh y_c) + (cap * tanh y_c - capped)) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
    assert (rho * Rabs (cap * tanh y_c) <= rho * (Rabs capped + L * E)) by (apply Rmult_le_compat_l; assumption).
    lra. }
  assert (P4 : 0 <= (1 + u) ^ 4) by (apply pow_le; lra).
  assert (L0 : 0 <= L) by apply lipschitz_range.
  assert (X1 : (1 + u) ^ 4 * ((1 + rho) * (L * E)) <= L * e).
  { replace ((1 + u) ^ 4 * ((1 + rho) * (L * E))) with (L * ((1 + u) ^ 4 * (1 + rho) * E)) by ring.
    apply Rmult_le_compat_l; [exact L0|]. refine (Rle_trans _ _ _ _ B). apply Rmult_le_compat_r; assumption. }
  assert (X2 : (1 + u) ^ 4 * (rho * Rabs capped) <= (2 * tanh_ulp + 4) * u * Rabs capped).
  { rewrite <- Rmult_assoc. apply Rmult_le_compat_r; [apply Rabs_pos|exact R2]. }
  assert (X3 : (1 + u) ^ 4 * eta_1 <= 2 * eta_1).
  { apply Rmult_le_compat_r; [exact Heta1|].
    assert ((1 + u) ^ 4 * 1 <= (1 + u) ^ 4 * (1 + rho)) by (apply Rmult_le_compat_l; lra). lra. }
  assert (X : (1 + u) ^ 4 * Rabs (capped_c - capped)
    <= (1 + u) ^ 4 * ((1 + rho) * (L * E) + rho * Rabs capped + eta_1)) by (apply Rmult_le_compat_l; assumption).
  lra.
Qed.

Lemma capped_s_error : Rabs (s_c - s) <= (1 + u) * Rabs (capped_c - capped) + with_bias * (u * Rabs s).
Proof.
  clear M_largest. unfold s_c, s, with_bias. destruct bias as [b|].
  - destruct (rnd_plus _ _ _ _ ok capped_c b (rnd_format _ _ _ _ ok _) bias_format) as [d [Hd E]]. rewrite E.
    replace ((capped_c + b) * (1 + d) - (capped + b)) with ((1 + d) * (capped_c - capped) + d * (capped + b)) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult, Rmult_1_l. apply Rplus_le_compat.
    + apply Rmult_le_compat_r; [apply Rabs_pos|]. refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
      rewrite Rabs_R1. lra.
    + apply Rmult_le_compat_r; [apply Rabs_pos|exact Hd].
  - rewrite Rplus_0_r, Rmult_0_l, Rplus_0_r. rewrite <- (Rmult_1_l (Rabs (capped_c - capped))) at 1.
    apply Rmult_le_compat_r; [apply Rabs_pos|lra].
Qed.

(** The weight, with an exponent as [natural_exponent] or [binary_exponent] has it. *)
Theorem softcap_weight_error (exp_ulp exponent d w_c : R) :
  0 <= exp_ulp -> 32 * (exp_ulp * exp_ulp) * u <= 1 ->
  Rabs (exponent - (s - lse)) <= exponent_bound u eta_1 s_c s lse ->
  Rabs d <= 2 * exp_ulp * u -> w_c = exp exponent * (1 + d) ->
  exists theta, Rabs theta <= softcap_weight_bound exp_ulp /\ w_c = exp (s - lse) * exp theta.
Proof.
  intros Hk Hku He Hd ->.
  apply (weight_from_exponent format rnd u eta_1 ok u_small s_c s lse exp_ulp exponent d); try assumption.
  unfold exponent_bound, softcap_weight_bound.
  assert (HC := capped_error). assert (HS := capped_s_error).
  assert (P1 := Rabs_pos s). assert (P2 := Rabs_pos lse).
  assert (Pb : 0 <= with_bias <= 1) by (unfold with_bias; destruct bias; lra).
  assert (Huu : 0 <= u * u) by (apply Rmult_le_pos; assumption).
  assert (Hu2 : u * u <= / 256 * u) by (apply Rmult_le_compat_r; assumption).
  assert (Huuu : 0 <= u * (u * u)) by (apply Rmult_le_pos; assumption).
  assert (Hu3 : u * (u * u) <= / 256 * (u * u)) by (apply Rmult_le_compat_r; assumption).
  assert (U3 : (1 + u) ^ 3 - 1 = 3 * u + 3 * (u * u) + u * (u * u)) by ring.
  assert (E1 : (1 + u) ^ 3 * Rabs (s_c - s)
    <= (1 + u) ^ 4 * Rabs (capped_c - capped) + (1 + u) ^ 3 * (with_bias * (u * Rabs s))).
  { replace ((1 + u) ^ 4 * Rabs (capped_c - capped) + (1 + u) ^ 3 * (with_bias * (u * Rabs s)))
      with ((1 + u) ^ 3 * ((1 + u) * Rabs (capped_c - capped) + with_bias * (u * Rabs s))) by ring.
    apply Rmult_le_compat_l; [apply pow_le; lra|exact HS]. }
  assert (Heta : eta_1 <= / 64 * u).
  { refine (Rle_trans _ _ _ eta_1_le _). rewrite Rmult_comm. apply Rmult_le_compat_r; [exact Hu|apply eta_range]. }
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
  lra.
Qed.

End Softcap.
