(** Two more steps of the error bounds: the softcap, and the logarithm of the softmax's denominator.

    - [softcap_error]: an error [e] of the score before the softcap becomes at most
      [min (1, sech^2 (z / cap) exp (2 e / cap)) e] ([Scores::entry_of], the constant named [lipschitz]).
    - [log_of_sum_error]: with [t_j] the relative errors of the unnormalised weights, the logarithm of their sum, in
      any order and over any tree, errs by at most [E / (1 - E)], [E = sum W_j |t_j| + gamma]
      ([RowArithmetic::forward], the number named [relative]). *)

From Coq Require Import Reals List Permutation Lia Lra.
From Flocq Require Import Raux.
From Coquelicot Require Import Coquelicot.
From SusOracle Require Derivative.
From SusOracle Require Import Sums.
Import ListNotations.

Open Scope R_scope.

(** * The softcap *)

Lemma sech_squared_cosh x : 1 - tanh x ^ 2 = / (cosh x * cosh x).
Proof.
  assert (P := Derivative.cosh_pos x).
  replace (1 - tanh x ^ 2) with ((cosh x * cosh x - sinh x * sinh x) / (cosh x * cosh x))
    by (unfold tanh; field; lra).
  replace (cosh x * cosh x - sinh x * sinh x) with 1; [unfold Rdiv; ring|].
  unfold cosh, sinh. assert (E : exp x * exp (- x) = 1) by (rewrite <- exp_plus, Rplus_opp_r; apply exp_0).
  replace ((exp x + exp (- x)) / 2 * ((exp x + exp (- x)) / 2) - (exp x - exp (- x)) / 2 * ((exp x - exp (- x)) / 2))
    with (exp x * exp (- x)) by field. now rewrite E.
Qed.

Lemma exp_monotone x y : x <= y -> exp x <= exp y.
Proof. intros [H|H]; [apply Rlt_le, exp_increasing, H|rewrite H; apply Rle_refl]. Qed.

Lemma cosh_moves x y : cosh x <= cosh y * exp (Rabs (x - y)).
Proof.
  unfold cosh.
  assert (A : exp x <= exp y * exp (Rabs (x - y))).
  { rewrite <- exp_plus. apply exp_monotone. assert (H := Rle_abs (x - y)). lra. }
  assert (B : exp (- x) <= exp (- y) * exp (Rabs (x - y))).
  { rewrite <- exp_plus. apply exp_monotone. assert (H := Rle_abs (- (x - y))). rewrite Rabs_Ropp in H. lra. }
  lra.
Qed.

(** [sech^2] grows by at most [exp (2 |x - y|)]. *)
Lemma sech_squared_moves x y : 1 - tanh x ^ 2 <= (1 - tanh y ^ 2) * exp (2 * Rabs (x - y)).
Proof.
  rewrite !sech_squared_cosh.
  assert (Px := Derivative.cosh_pos x). assert (Py := Derivative.cosh_pos y).
  assert (H := cosh_moves y x). rewrite Rabs_minus_sym in H.
  set (g := exp (Rabs (x - y))) in *. assert (Pg : 0 < g) by apply exp_pos.
  replace (exp (2 * Rabs (x - y))) with (g * g)
    by (unfold g; rewrite <- exp_plus; f_equal; ring).
  apply (Rmult_le_reg_r ((cosh x * cosh x) * (cosh y * cosh y))).
  { apply Rmult_lt_0_compat; apply Rmult_lt_0_compat; assumption. }
  replace (/ (cosh x * cosh x) * (cosh x * cosh x * (cosh y * cosh y))) with (cosh y * cosh y) by (field; lra).
  replace (/ (cosh y * cosh y) * (g * g) * (cosh x * cosh x * (cosh y * cosh y)))
    with ((cosh x * g) * (cosh x * g)) by (field; lra).
  apply Rmult_le_compat; lra.
Qed.

Lemma sech_squared_at_most_1 x : 1 - tanh x ^ 2 <= 1.
Proof. assert (H := pow2_ge_0 (tanh x)). lra. Qed.

Lemma sech_squared_pos x : 0 < 1 - tanh x ^ 2.
Proof.
  rewrite sech_squared_cosh. assert (P := Derivative.cosh_pos x).
  apply Rinv_0_lt_compat. now apply Rmult_lt_0_compat.
Qed.

(** The slope of the softcap near [y]. *)
Definition lipschitz (y e : R) : R := Rmin 1 ((1 - tanh y ^ 2) * exp (2 * e)).

Theorem tanh_error x y e :
  Rabs (x - y) <= e -> Rabs (tanh x - tanh y) <= lipschitz y e * Rabs (x - y).
Proof.
  intros H.
  destruct (MVT_gen tanh y x (fun c => 1 - tanh c ^ 2)) as [c [Hc E]].
  - intros c _. apply (Derivative.d_value _ _ _ _ (Derivative.d_tanh (fun t => t) c 1 (is_derive_id c))). ring.
  - intros c _. apply derivable_continuous_pt. exists (1 - tanh c ^ 2). apply is_derive_Reals.
    apply (Derivative.d_value _ _ _ _ (Derivative.d_tanh (fun t => t) c 1 (is_derive_id c))). ring.
  - rewrite E, Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|].
    assert (Pc := sech_squared_pos c). rewrite Rabs_pos_eq by lra. unfold lipschitz.
    apply Rmin_glb; [apply sech_squared_at_most_1|].
    refine (Rle_trans _ _ _ (sech_squared_moves c y) _).
    apply Rmult_le_compat_l; [apply Rlt_le, sech_squared_pos|]. apply exp_monotone.
    apply Rmult_le_compat_l; [lra|]. refine (Rle_trans _ _ _ _ H).
    unfold Rmin, Rmax in Hc. destruct (Rle_dec y x) as [L|L].
    + rewrite !Rabs_pos_eq; lra.
    + rewrite !Rabs_left1; lra.
Qed.

Theorem softcap_error cap z z_c e :
  0 < cap -> Rabs (z_c - z) <= e ->
  Rabs (cap * tanh (z_c / cap) - cap * tanh (z / cap)) <= lipschitz (z / cap) (e / cap) * e.
Proof.
  intros Hc H.
  assert (Q : Rabs (z_c / cap - z / cap) = Rabs (z_c - z) / cap).
  { replace (z_c / cap - z / cap) with ((z_c - z) * / cap) by (field; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (/ cap)); [reflexivity|]. apply Rlt_le, Rinv_0_lt_compat, Hc. }
  assert (E : Rabs (z_c / cap - z / cap) <= e / cap).
  { rewrite Q. apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat, Hc|exact H]. }
  assert (T := tanh_error _ _ _ E).
  replace (cap * tanh (z_c / cap) - cap * tanh (z / cap)) with (cap * (tanh (z_c / cap) - tanh (z / cap))) by ring.
  rewrite Rabs_mult, (Rabs_pos_eq cap) by lra.
  assert (L : 0 <= lipschitz (z / cap) (e / cap)).
  { unfold lipschitz. apply Rmin_glb; [lra|]. apply Rmult_le_pos; [apply Rlt_le, sech_squared_pos|].
    apply Rlt_le, exp_pos. }
  apply (Rle_trans _ (cap * (lipschitz (z / cap) (e / cap) * (e / cap)))).
  - apply Rmult_le_compat_l; [lra|]. refine (Rle_trans _ _ _ T _). now apply Rmult_le_compat_l.
  - apply Req_le. field. lra.
Qed.

(** * The logarithm of a sum of positive terms *)

Lemma ln_le_minus_1 x : 0 < x -> ln x <= x - 1.
Proof.
  intros P. rewrite <- (ln_exp (x - 1)). assert (E := exp_ineq1_le (x - 1)).
  destruct (Rle_lt_or_eq_dec _ _ E) as [L|L].
  - apply Rlt_le, ln_increasing; lra.
  - replace x with (exp (x - 1)) at 1 by lra. apply Rle_refl.
Qed.

Lemma ln_of_complement w : 0 <= w < 1 -> - ln (1 - w) <= w / (1 - w).
Proof.
  intros H. rewrite <- ln_Rinv by lra.
  refine (Rle_trans _ _ _ (ln_le_minus_1 _ (Rinv_0_lt_compat _ _)) _); [lra|]. apply Req_le. field. lra.
Qed.

Section LogOfSum.

Variables (format : R -> Prop) (rnd : R -> R) (u eta : R).
Hypothesis ok : rounding format rnd u eta.

(** Each term with its relative error. *)
Variable es : list (R * R).
Hypothesis positive : List.Forall (fun p => 0 < fst p /\ -1 <= snd p) es.
Hypothesis some : es <> [].

Let computed_terms := map (fun p => fst p * (1 + snd p)) es.
Let total := sum (map fst es).
Let omega := sum (map (fun p => fst p / total * Rabs (snd p)) es).
Let gamma_n := gamma u (length es - 1).

Hypothesis exact_terms : List.Forall format computed_terms.
Variable t : tree.
Hypothesis t_adds : adds computed_terms t.
Hypothesis few : INR (length es - 1) * u < 1.
Hypothesis small : omega + gamma_n < 1.

Lemma total_pos : 0 < total.
Proof.
  unfold total. clear - positive some.
  assert (N : forall l, List.Forall (fun p : R * R => 0 < fst p /\ -1 <= snd p) l -> 0 <= sum (map fst l)).
  { intros l. induction 1 as [|p l Hp _ IH]; simpl; lra. }
  destruct es as [|p l]; [contradiction|]. inversion positive as [|? ? Hp Hl]. subst.
  simpl. assert (H := N l Hl). lra.
Qed.

Lemma sums_of_terms :
  sum computed_terms - total <= omega * total /\ total - sum computed_terms <= omega * total
  /\ 0 <= omega /\ sum_abs computed_terms = sum computed_terms.
Proof.
  assert (P := total_pos). unfold omega, computed_terms.
  assert (X : forall l, List.Forall (fun p : R * R => 0 < fst p /\ -1 <= snd p) l ->
    sum (map (fun p => fst p * (1 + snd p)) l) - sum (map fst l)
      <= sum (map (fun p => fst p / total * Rabs (snd p)) l) * total /\
    sum (map fst l) - sum (map (fun p => fst p * (1 + snd p)) l)
      <= sum (map (fun p => fst p / total * Rabs (snd p)) l) * total /\
    0 <= sum (map (fun p => fst p / total * Rabs (snd p)) l) /\
    sum_abs (map (fun p => fst p * (1 + snd p)) l) = sum (map (fun p => fst p * (1 + snd p)) l)).
  { intros l. unfold sum_abs. induction 1 as [|p l [Hp Hq] _ [I1 [I2 [I3 I4]]]]; simpl; [repeat split; lra|].
    assert (E : fst p / total * Rabs (snd p) * total = fst p * Rabs (snd p)) by (field; lra).
    assert (A1 : fst p * snd p <= fst p * Rabs (snd p)) by (apply Rmult_le_compat_l; [lra|apply Rle_abs]).
    assert (A2 : fst p * - snd p <= fst p * Rabs (snd p)).
    { apply Rmult_le_compat_l; [lra|]. rewrite <- Rabs_Ropp. apply Rle_abs. }
    assert (A3 : 0 <= fst p / total * Rabs (snd p)).
    { apply Rmult_le_pos; [|apply Rabs_pos]. apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat, P]. }
    repeat split; try lra. rewrite I4, Rabs_pos_eq; [reflexivity|]. apply Rmult_le_pos; lra. }
  exact (X es positive).
Qed.

Theorem log_of_sum_error :
  0 < computed rnd t /\
  Rabs (ln (computed rnd t) - ln total) <= (omega + gamma_n) / (1 - (omega + gamma_n)).
Proof.
  assert (P := total_pos). destruct sums_of_terms as [H1 [H2 [H0 Habs]]].
  assert (Hlen : length computed_terms = length es) by apply map_length.
  assert (E := sum_within_gamma format rnd u eta ok computed_terms t t_adds exact_terms).
  rewrite Hlen in E. specialize (E few). fold gamma_n in E. rewrite Habs in E.
  set (S := sum computed_terms) in *. set (C := computed rnd t) in *.
  assert (G0 : 0 <= gamma_n).
  { unfold gamma_n, gamma. apply Rmult_le_pos.
    - apply Rmult_le_pos; [apply pos_INR|apply (u_pos _ _ _ _ ok)].
    - apply Rlt_le, Rinv_0_lt_compat. lra. }
  apply Rabs_le_inv in E.
  assert (S0 : (1 - omega) * total <= S) by lra. assert (S1 : S <= (1 + omega) * total) by lra.
  assert (Slow : 0 <= S) by (refine (Rle_trans _ _ _ _ S0); apply Rmult_le_pos; lra).
  assert (C0 : (1 - gamma_n) * ((1 - omega) * total) <= C).
  { apply (Rle_trans _ ((1 - gamma_n) * S)); [apply Rmult_le_compat_l; lra|lra]. }
  assert (C1 : C <= (1 + gamma_n) * ((1 + omega) * total)).
  { apply (Rle_trans _ ((1 + gamma_n) * S)); [lra|apply Rmult_le_compat_l; lra]. }
  assert (Pw : 0 < (1 - gamma_n) * ((1 - omega) * total)) by (repeat apply Rmult_lt_0_compat; lra).
  split; [lra|].
  assert (Ho1 : omega < 1) by lra. assert (Hg1 : gamma_n < 1) by lra.
  set (E0 := omega + gamma_n) in *.
  assert (Hog : 0 <= omega * gamma_n) by (apply Rmult_le_pos; assumption).
  assert (Up : ln C - ln total <= E0 / (1 - E0)).
  { assert (L : ln C <= ln ((1 + gamma_n) * ((1 + omega) * total))).
    { destruct C1 as [L|L]; [apply Rlt_le, ln_increasing; lra|rewrite L; apply Rle_refl]. }
    rewrite <- Rmult_assoc, ln_mult in L by (try apply Rmult_lt_0_compat; lra).
    assert (M := ln_le_minus_1 ((1 + gamma_n) * (1 + omega)) ltac:(apply Rmult_lt_0_compat; lra)).
    apply (Rle_trans _ (E0 + omega * gamma_n)); [unfold E0; lra|].
    apply (Rmult_le_reg_r (1 - E0)); [lra|]. unfold Rdiv. rewrite (Rmult_assoc E0), Rinv_l, Rmult_1_r by lra.
    assert (Q : omega * gamma_n <= E0 * E0).
    { unfold E0. replace ((omega + gamma_n) * (omega + gamma_n))
        with (omega * gamma_n + (omega * omega + gamma_n * gamma_n + omega * gamma_n)) by ring.
      assert (0 <= omega * omega) by (apply Rmult_le_pos; assumption).
      assert (0 <= gamma_n * gamma_n) by (apply Rmult_le_pos; assumption). lra. }
    assert (0 <= omega * gamma_n * E0) by (apply Rmult_le_pos; unfold E0; lra). lra. }
  assert (Down : ln total - ln C <= E0 / (1 - E0)).
  { assert (L : ln ((1 - gamma_n) * ((1 - omega) * total)) <= ln C).
    { destruct C0 as [L|L]; [apply Rlt_le, ln_increasing; lra|rewrite L; apply Rle_refl]. }
    rewrite <- Rmult_assoc, ln_mult in L by (try apply Rmult_lt_0_compat; lra).
    assert (W : ln (1 - E0) <= ln ((1 - gamma_n) * (1 - omega))).
    { assert (X : 1 - E0 <= (1 - gamma_n) * (1 - omega)) by (unfold E0; lra).
      destruct X as [X|X]; [apply Rlt_le, ln_increasing; lra|rewrite X; apply Rle_refl]. }
    assert (HE0 : 0 <= E0) by (unfold E0; lra).
    assert (V := ln_of_complement E0 (conj HE0 small)). lra. }
  apply Rabs_le. lra.
Qed.

End LogOfSum.
