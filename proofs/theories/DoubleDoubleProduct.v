(** Double-double products and quotients: the programs [split], [two_prod], [product] and [quotient] of [Dd].

    With [u = 2^-53], on finite numbers and without overflow:

    - [two_prod_exact]: the low part is the exact error of the product, if both factors are normal and the product
      is at least [2^-968] in magnitude (or zero).
    - [dd_product_error]: [product] is within [7 u^2] of the exact product, relatively, where the high parts are
      normal and their product is at least [2^-967].
    - [dd_quotient_error]: [quotient] is within [15 u^2 + 56 u^3] of the exact quotient, where the high parts are
      such that nothing underflows; [dd_div_error]: so is `/`, which scales the operands where the numerator is
      small. *)

From Coq Require Import Reals ZArith Lia Lra Psatz.
From Flocq Require Import Core Plus_error Sterbenz.
From SusOracle Require Import Sums Binary64 DoubleDouble.

Open Scope R_scope.

(** * The programs *)

(** [split]: the upper part is the number rounded to 26 bits. The crate adds half of the 27 low bits to the bit
    pattern and clears them, which rounds the magnitude, ties upward; here the rule for ties is any. *)
Definition upper (choice : Z -> bool) (a : R) : R := round radix2 (FLT_exp (-1047) 26) (Znearest choice) a.

(** On a magnitude of [m] units in the last place, adding [2^26] and clearing 27 bits rounds to a multiple of [2^27],
    ties away from zero. *)
Lemma clearing_bits_rounds m :
  (0 <= m)%Z ->
  Z.ldiff (m + 2 ^ 26) (2 ^ 27 - 1) = (2 ^ 27 * ZnearestA (IZR m * bpow radix2 (-27)))%Z.
Proof.
  intros Hm.
  assert (E : Z.ldiff (m + 2 ^ 26) (2 ^ 27 - 1) = (2 ^ 27 * ((m + 2 ^ 26) / 2 ^ 27))%Z).
  { replace (2 ^ 27 - 1)%Z with (Z.ones 27) by reflexivity.
    rewrite Z.ldiff_ones_r, Z.shiftl_mul_pow2, Z.shiftr_div_pow2 by lia. ring. }
  rewrite E. f_equal. set (n := ((m + 2 ^ 26) / 2 ^ 27)%Z).
  assert (H1 : (2 ^ 27 * n <= m + 2 ^ 26)%Z) by (apply Z.mul_div_le; lia).
  assert (H2 : (m + 2 ^ 26 < 2 ^ 27 * (n + 1))%Z).
  { assert (X := Z.mul_succ_div_gt (m + 2 ^ 26) (2 ^ 27) ltac:(lia)). fold n in X. lia. }
  replace (bpow radix2 (-27)) with (/ 134217728) by reflexivity.
  apply IZR_le in H1. apply IZR_lt in H2. rewrite plus_IZR, mult_IZR in H1, H2. rewrite plus_IZR in H2.
  simpl in H1, H2. symmetry.
  destruct (Rle_lt_or_eq_dec (IZR n - / 2) (IZR m * / 134217728)) as [L|L]; [lra| |].
  - apply Znearest_imp. apply Rabs_lt. lra.
  - rewrite <- L. unfold Znearest.
    assert (F : Zfloor (IZR n - / 2) = (n - 1)%Z) by (apply Zfloor_imp; rewrite plus_IZR, minus_IZR; lra).
    assert (C : Zceil (IZR n - / 2) = n) by (apply Zceil_imp; rewrite minus_IZR; lra).
    rewrite F, C, Rcompare_Eq by (rewrite minus_IZR; lra).
    assert (N : (0 <= n - 1)%Z).
    { assert (-1 < n - 1)%Z; [|lia]. apply lt_IZR. rewrite minus_IZR. apply IZR_le in Hm. lra. }
    destruct (Zle_bool_spec 0 (n - 1)); [reflexivity|lia].
Qed.

Section Programs.

Variable choice : Z -> bool.

Definition split (a : R) : R * R := (upper choice a, round64 (a - upper choice a)).

(** [two_prod] (Dekker). *)
Definition two_prod (a b : R) : R * R :=
  let p := round64 (a * b) in
  let (a1, a2) := split a in
  let (b1, b2) := split b in
  (p, round64 (round64 (round64 (round64 (round64 (a1 * b1) - p) + round64 (a1 * b2)) + round64 (a2 * b1))
               + round64 (a2 * b2))).

(** [product]: JMP's algorithm 10. *)
Definition dd_product (a b : dd) : dd :=
  let (p, p_err) := two_prod (hi a) (hi b) in
  let cross := round64 (round64 (hi a * lo b) + round64 (lo a * hi b)) in
  of_pair (fast_two_sum p (round64 (p_err + cross))).

(** [quotient] with [q] the quotient of the high parts: JMP's algorithm 17. *)
Definition dd_quotient (a b : dd) : dd :=
  let q := round64 (hi a / hi b) in
  let (p, p_err) := two_prod (hi b) q in
  let (t, t_err) := fast_two_sum p (round64 (lo b * q)) in
  let (r, r_err) := fast_two_sum t (round64 (t_err + p_err)) in
  let rest := round64 (round64 (hi a - r) + round64 (lo a - r_err)) in
  of_pair (fast_two_sum q (round64 (rest / hi b))).

End Programs.

(** * The product of two numbers *)

Lemma multiple_mult e f x y : multiple e x -> multiple f y -> multiple (e + f) (x * y).
Proof. intros [a ->] [b ->]. exists (a * b)%Z. rewrite mult_IZR, bpow_plus. ring. Qed.

(** Half a unit in the last place, for any real number that is not too small. *)
Lemma round_error_absolute x k :
  (-1021 <= k)%Z -> Rabs x <= bpow radix2 k -> Rabs (round64 x - x) <= bpow radix2 (k - 54).
Proof.
  intros Hk H.
  assert (Z0 : format64 x -> Rabs (round64 x - x) <= bpow radix2 (k - 54)).
  { intros Fx. rewrite round64_exact, Rminus_diag_eq, Rabs_R0 by auto. apply bpow_ge_0. }
  destruct (Req_dec x 0) as [E0|E0]; [apply Z0; rewrite E0; apply format64_0|].
  destruct (Rle_lt_or_eq_dec _ _ H) as [L|E].
  - refine (Rle_trans _ _ _ (error_le_half_ulp radix2 (FLT_exp (-1074) 53) _ _) _).
    rewrite ulp_neq_0 by exact E0. rewrite half_bpow. apply bpow_le. unfold cexp, FLT_exp.
    assert (M := mag_le_bpow radix2 x k E0 L). lia.
  - apply Z0. assert (F : format64 (bpow radix2 k)) by (apply format64_bpow; lia).
    unfold Rabs in E. destruct (Rcase_abs x).
    + replace x with (- bpow radix2 k) by lra. now apply format64_opp.
    + now rewrite E.
Qed.

Lemma round_error_relative x : exists e, Rabs e <= half_least (-1074) /\
  Rabs (round64 x - x - e) <= u64 * Rabs x.
Proof.
  destruct (rnd_any _ _ _ _ round64_is_a_rounding x) as [d [e [Hd [He E]]]].
  exists e. split; [exact He|]. rewrite E. replace (x * (1 + d) + e - x - e) with (d * x) by ring.
  rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|exact Hd].
Qed.

Lemma round64_abs_le x y : format64 y -> Rabs x <= y -> Rabs (round64 x) <= y.
Proof.
  intros F H. apply Rabs_le. apply Rabs_le_inv in H. split.
  - rewrite <- (round64_exact y F), <- round64_opp. apply round64_mono. lra.
  - rewrite <- (round64_exact y F). apply round64_mono. lra.
Qed.

Lemma prec26 : Prec_gt_0 26. Proof. reflexivity. Qed.
#[local] Existing Instance prec26.

Section Split.

Variables (choice : Z -> bool) (a : R).
Hypothesis Fa : format64 a.
Hypothesis normal : bpow radix2 (-1022) <= Rabs a.

(** The exponent of the last bit. *)
Definition last_bit (x : R) : Z := (mag radix2 x - 53)%Z.
Let e := last_bit a.

Lemma normal_nonzero : a <> 0.
Proof. intros E. rewrite E, Rabs_R0 in normal. assert (B := bpow_gt_0 radix2 (-1022)). lra. Qed.

Lemma last_bit_ge : (-1074 <= e)%Z.
Proof.
  assert (M := mag_ge_bpow radix2 a (-1021)). simpl Z.sub in M. specialize (M normal).
  unfold e, last_bit. lia.
Qed.

Lemma below_last_bit : Rabs a < bpow radix2 (e + 53).
Proof. unfold e, last_bit. replace (mag radix2 a - 53 + 53)%Z with (mag radix2 a : Z) by ring. apply bpow_mag_gt. Qed.

Lemma above_last_bit : bpow radix2 (e + 52) <= Rabs a.
Proof.
  unfold e, last_bit. replace (mag radix2 a - 53 + 52)%Z with (mag radix2 a - 1)%Z by ring.
  apply bpow_mag_le, normal_nonzero.
Qed.

Lemma multiple_of_last_bit : multiple e a.
Proof. apply format_is_multiple; [exact Fa|right; apply above_last_bit]. Qed.

Lemma exponent26 : cexp radix2 (FLT_exp (-1047) 26) a = (e + 27)%Z.
Proof. unfold cexp, FLT_exp. assert (H := last_bit_ge). unfold e, last_bit in *. lia. Qed.

Lemma upper_multiple : multiple (e + 27) (upper choice a).
Proof.
  rewrite <- exponent26. unfold upper, round, F2R, scaled_mantissa. simpl.
  now exists (Znearest choice (a * bpow radix2 (- cexp radix2 (FLT_exp (-1047) 26) a))).
Qed.

Lemma upper_error : Rabs (a - upper choice a) <= bpow radix2 (e + 26).
Proof.
  rewrite Rabs_minus_sym. unfold upper.
  refine (Rle_trans _ _ _ (error_le_half_ulp radix2 (FLT_exp (-1047) 26) _ _) _).
  rewrite ulp_neq_0 by apply normal_nonzero. rewrite exponent26, half_bpow. apply bpow_le. lia.
Qed.

Lemma upper_le : Rabs (upper choice a) <= bpow radix2 (e + 53).
Proof.
  assert (F : generic_format radix2 (FLT_exp (-1047) 26) (bpow radix2 (e + 53))).
  { apply generic_format_bpow. unfold FLT_exp. assert (H := last_bit_ge). lia. }
  assert (B := below_last_bit). apply Rabs_lt_inv in B. unfold upper. apply Rabs_le. split.
  - apply round_ge_generic; [apply FLT_exp_valid; exact prec26|apply valid_rnd_N|now apply generic_format_opp|lra].
  - apply round_le_generic; [apply FLT_exp_valid; exact prec26|apply valid_rnd_N|exact F|lra].
Qed.

(** The lower part is exact. *)
Lemma split_exact : split choice a = (upper choice a, a - upper choice a) /\ multiple e (a - upper choice a).
Proof.
  assert (M : multiple e (a - upper choice a)).
  { apply multiple_minus; [apply multiple_of_last_bit|].
    apply (multiple_weaken e (e + 27)); [lia|apply upper_multiple]. }
  split; [|exact M]. unfold split. f_equal. apply round64_exact.
  apply (multiple_format e); [exact M|apply last_bit_ge|].
  refine (Rle_trans _ _ _ upper_error _). apply bpow_le. lia.
Qed.

End Split.

Lemma split_zero choice : split choice 0 = (0, 0).
Proof.
  unfold split, upper. rewrite round_0 by apply valid_rnd_N. rewrite Rminus_0_r.
  now rewrite round64_exact by apply format64_0.
Qed.

(** [two_prod] is error-free. *)
Theorem two_prod_exact choice a b :
  format64 a -> format64 b ->
  a * b = 0 \/ (bpow radix2 (-1022) <= Rabs a /\ bpow radix2 (-1022) <= Rabs b
                /\ bpow radix2 (-968) <= Rabs (a * b)) ->
  two_prod choice a b = (round64 (a * b), a * b - round64 (a * b)).
Proof.
  intros Fa Fb [H|[Na [Nb Hab]]].
  { assert (Z0 : round64 0 = 0) by apply round64_exact, format64_0.
    unfold two_prod. rewrite H. apply Rmult_integral in H. destruct H as [->| ->].
    - rewrite split_zero. destruct (split choice b) as [b1 b2].
      rewrite !Rmult_0_l, !Z0. f_equal. now rewrite ?Rminus_0_r, ?Rplus_0_r, ?Z0, ?Rplus_0_r, ?Z0.
    - rewrite split_zero. destruct (split choice a) as [a1 a2].
      rewrite !Rmult_0_r, !Z0. f_equal. now rewrite ?Rminus_0_r, ?Rplus_0_r, ?Z0, ?Rplus_0_r, ?Z0. }
  unfold two_prod.
  destruct (split_exact choice a Fa Na) as [Ea Ma2]. destruct (split_exact choice b Fb Nb) as [Eb Mb2].
  rewrite Ea, Eb. f_equal.
  set (a1 := upper choice a) in *. set (b1 := upper choice b) in *.
  set (a2 := a - a1) in *. set (b2 := b - b1) in *.
  set (p := round64 (a * b)).
  set (f := last_bit a) in *. set (g := last_bit b) in *.
  assert (Ma1 : multiple (f + 27) a1) by now apply upper_multiple.
  assert (Mb1 : multiple (g + 27) b1) by now apply upper_multiple.
  assert (Ma : multiple f a) by now apply multiple_of_last_bit.
  assert (Mb : multiple g b) by now apply multiple_of_last_bit.
  assert (La1 : Rabs a1 <= bpow radix2 (f + 53)) by now apply upper_le.
  assert (Lb1 : Rabs b1 <= bpow radix2 (g + 53)) by now apply upper_le.
  assert (La2 : Rabs a2 <= bpow radix2 (f + 26)) by now apply upper_error.
  assert (Lb2 : Rabs b2 <= bpow radix2 (g + 26)) by now apply upper_error.
  assert (La : Rabs a <= bpow radix2 (f + 53)) by (apply Rlt_le, below_last_bit).
  assert (Lb : Rabs b <= bpow radix2 (g + 53)) by (apply Rlt_le, below_last_bit).
  assert (La' : bpow radix2 (f + 52) <= Rabs a) by now apply above_last_bit.
  assert (Lb' : bpow radix2 (g + 52) <= Rabs b) by now apply above_last_bit.
  set (e := (f + g)%Z).
  assert (Prod : forall m n x y, Rabs x <= bpow radix2 (f + m) -> Rabs y <= bpow radix2 (g + n) ->
    Rabs (x * y) <= bpow radix2 (e + (m + n))).
  { intros m n x y Hx Hy. rewrite Rabs_mult.
    replace (e + (m + n))%Z with ((f + m) + (g + n))%Z by (unfold e; ring). rewrite bpow_plus.
    apply Rmult_le_compat; try apply Rabs_pos; assumption. }
  assert (Lab := Prod 53%Z 53%Z a b La Lb).
  assert (He : (-1074 <= e)%Z).
  { assert (L : bpow radix2 (-968) <= bpow radix2 (e + (53 + 53))) by lra.
    apply le_bpow in L. lia. }
  set (E := bpow radix2 e). assert (HE : 0 < E) by apply bpow_gt_0.
  assert (EE : forall k, bpow radix2 (e + k) = bpow radix2 k * E) by (intros k; rewrite bpow_plus; apply Rmult_comm).
  (* the error of p, and what p is a multiple of *)
  assert (Hp : Rabs (p - a * b) <= bpow radix2 (e + 52)).
  { replace (e + 52)%Z with (e + (53 + 53) - 54)%Z by ring. apply round_error_absolute; [lia|exact Lab]. }
  assert (Lab' : bpow radix2 (e + 104) <= Rabs (a * b)).
  { rewrite Rabs_mult. replace (e + 104)%Z with ((f + 52) + (g + 52))%Z by (unfold e; ring). rewrite bpow_plus.
    apply Rmult_le_compat; try apply bpow_ge_0; assumption. }
  assert (Mp : multiple (e + 52) p).
  { apply format_is_multiple; [apply round64_format|right].
    replace (e + 52 + 52)%Z with (e + 104)%Z by ring.
    assert (F : format64 (bpow radix2 (e + 104))) by (apply format64_bpow; lia).
    destruct (Rle_or_lt 0 (a * b)) as [S|S].
    - rewrite Rabs_pos_eq in Lab' by exact S. apply round64_mono in Lab'. rewrite (round64_exact _ F) in Lab'.
      refine (Rle_trans _ _ _ Lab' _). apply Rle_abs.
    - rewrite Rabs_left in Lab' by exact S. rewrite <- Rabs_Ropp. unfold p. rewrite <- round64_opp.
      apply round64_mono in Lab'. rewrite (round64_exact _ F) in Lab'.
      refine (Rle_trans _ _ _ Lab' _). apply Rle_abs. }
  (* the four products are exact *)
  assert (M11 : multiple (e + 54) (a1 * b1)).
  { replace (e + 54)%Z with ((f + 27) + (g + 27))%Z by (unfold e; ring). now apply multiple_mult. }
  assert (M12 : multiple (e + 27) (a1 * b2)).
  { replace (e + 27)%Z with ((f + 27) + g)%Z by (unfold e; ring). now apply multiple_mult. }
  assert (M21 : multiple (e + 27) (a2 * b1)).
  { replace (e + 27)%Z with (f + (g + 27))%Z by (unfold e; ring). now apply multiple_mult. }
  assert (M22 : multiple e (a2 * b2)) by (unfold e; now apply multiple_mult).
  assert (L11 := Prod 53%Z 53%Z a1 b1 La1 Lb1). assert (L12 := Prod 53%Z 26%Z a1 b2 La1 Lb2).
  assert (L21 := Prod 26%Z 53%Z a2 b1 La2 Lb1). assert (L22 := Prod 26%Z 26%Z a2 b2 La2 Lb2).
  assert (L2b := Prod 26%Z 53%Z a2 b La2 Lb).
  rewrite (round64_exact (a1 * b1)).
  2: { apply (multiple_format (e + 54)); [exact M11|lia|]. refine (Rle_trans _ _ _ L11 _). apply bpow_le. lia. }
  rewrite (round64_exact (a1 * b2)).
  2: { apply (multiple_format (e + 27)); [exact M12|lia|]. refine (Rle_trans _ _ _ L12 _). apply bpow_le. lia. }
  rewrite (round64_exact (a2 * b1)).
  2: { apply (multiple_format (e + 27)); [exact M21|lia|]. refine (Rle_trans _ _ _ L21 _). apply bpow_le. lia. }
  rewrite (round64_exact (a2 * b2)).
  2: { apply (multiple_format e); [exact M22|lia|]. refine (Rle_trans _ _ _ L22 _). apply bpow_le. lia. }
  (* and so are the four sums *)
  rewrite EE in *. simpl Z.add in L11, L12, L21, L22, L2b.
  assert (M1 : multiple (e + 52) (a1 * b1 - p)).
  { apply multiple_minus; [|exact Mp]. apply (multiple_weaken _ (e + 54)); [lia|exact M11]. }
  assert (T1 : Rabs (a1 * b1 - p) <= bpow radix2 (e + 52 + 53)).
  { replace (a1 * b1 - p) with (- (p - a * b) - a1 * b2 - a2 * b) by (unfold a2, b2; ring).
    assert (X := Rabs_triang (- (p - a * b) - a1 * b2) (- (a2 * b))).
    assert (Y := Rabs_triang (- (p - a * b)) (- (a1 * b2))). rewrite !Rabs_Ropp in *.
    replace (e + 52 + 53)%Z with (e + 105)%Z by ring. rewrite EE.
    replace (bpow radix2 105) with 40564819207303340847894502572032 by reflexivity.
    replace (bpow radix2 52) with 4503599627370496 in Hp by reflexivity.
    replace (bpow radix2 79) with 604462909807314587353088 in L12, L2b by reflexivity.
    unfold Rminus in *. lra. }
  rewrite (round64_exact (a1 * b1 - p)) by (apply (multiple_format (e + 52)); [exact M1|lia|exact T1]).
  assert (M2 : multiple (e + 27) (a1 * b1 - p + a1 * b2)).
  { apply multiple_plus; [|exact M12]. apply (multiple_weaken _ (e + 52)); [lia|exact M1]. }
  assert (T2 : Rabs (a1 * b1 - p + a1 * b2) <= bpow radix2 (e + 27 + 53)).
  { replace (a1 * b1 - p + a1 * b2) with (- (p - a * b) - a2 * b) by (unfold a2, b2; ring).
    assert (X := Rabs_triang (- (p - a * b)) (- (a2 * b))). rewrite !Rabs_Ropp in *.
    replace (e + 27 + 53)%Z with (e + 80)%Z by ring. rewrite EE.
    replace (bpow radix2 80) with 1208925819614629174706176 by reflexivity.
    replace (bpow radix2 52) with 4503599627370496 in Hp by reflexivity.
    replace (bpow radix2 79) with 604462909807314587353088 in L2b by reflexivity.
    unfold Rminus in *. lra. }
  rewrite (round64_exact (a1 * b1 - p + a1 * b2)) by (apply (multiple_format (e + 27)); [exact M2|lia|exact T2]).
  assert (M3 : multiple (e + 27) (a1 * b1 - p + a1 * b2 + a2 * b1)) by (apply multiple_plus; [exact M2|exact M21]).
  assert (T3 : Rabs (a1 * b1 - p + a1 * b2 + a2 * b1) <= bpow radix2 (e + 53)).
  { replace (a1 * b1 - p + a1 * b2 + a2 * b1) with (- (p - a * b) - a2 * b2) by (unfold a2, b2; ring).
    assert (X := Rabs_triang (- (p - a * b)) (- (a2 * b2))). rewrite !Rabs_Ropp in *.
    rewrite EE.
    replace (bpow radix2 53) with 9007199254740992 by reflexivity.
    replace (bpow radix2 52) with 4503599627370496 in Hp, L22 by reflexivity.
    unfold Rminus in *. lra. }
  rewrite (round64_exact (a1 * b1 - p + a1 * b2 + a2 * b1)).
  2: { apply (multiple_format (e + 27)); [exact M3|lia|]. refine (Rle_trans _ _ _ T3 _). apply bpow_le. lia. }
  assert (E4 : a1 * b1 - p + a1 * b2 + a2 * b1 + a2 * b2 = a * b - p) by (unfold a2, b2; ring).
  rewrite E4. apply round64_exact. apply (multiple_format e); [|lia|].
  - apply multiple_minus; [unfold e; now apply multiple_mult|]. apply (multiple_weaken _ (e + 52)); [lia|exact Mp].
  - rewrite Rabs_minus_sym, EE. replace (bpow radix2 53) with 9007199254740992 by reflexivity.
    replace (bpow radix2 52) with 4503599627370496 in Hp by reflexivity. lra.
Qed.

(** * The product of two double-doubles *)

(** A product with a power of two is exact, but for underflow. *)
Lemma scaled_error h l k :
  format64 l -> Rabs h = bpow radix2 k -> Rabs (round64 (h * l) - h * l) <= bpow radix2 (-1075).
Proof.
  intros Fl Eh. destruct (Rle_or_lt (Rabs (h * l)) (bpow radix2 (-1021))) as [L|L].
  - apply (round_error_absolute _ (-1021)); [lia|exact L].
  - rewrite round64_exact; [rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; apply bpow_ge_0|].
    assert (L0 : l <> 0).
    { intros E. rewrite E, Rmult_0_r, Rabs_R0 in L. assert (P := bpow_gt_0 radix2 (-1021)). lra. }
    set (c := (mag radix2 l - 53)%Z).
    assert (Hl : Rabs l < bpow radix2 (c + 53)).
    { unfold c. replace (mag radix2 l - 53 + 53)%Z with (mag radix2 l : Z) by ring. apply bpow_mag_gt. }
    assert (M : multiple c l).
    { apply format_is_multiple; [exact Fl|right]. unfold c.
      replace (mag radix2 l - 53 + 52)%Z with (mag radix2 l - 1)%Z by ring. now apply bpow_mag_le. }
    assert (Mh : multiple k h).
    { unfold Rabs in Eh. destruct (Rcase_abs h); [exists (-1)%Z|exists 1%Z]; lra. }
    assert (U : Rabs (h * l) <= bpow radix2 (k + c + 53)).
    { rewrite Rabs_mult, Eh, <- Z.add_assoc, (bpow_plus radix2 k).
      apply Rmult_le_compat_l; [apply bpow_ge_0|lra]. }
    apply (multiple_format (k + c)); [now apply multiple_mult| |exact U].
    assert (X : bpow radix2 (-1021) < bpow radix2 (k + c + 53)) by lra. apply lt_bpow in X. lia.
Qed.

Section Product.

Variables (choice : Z -> bool) (x y : dd).
Hypothesis Dx : double_double x.
Hypothesis Dy : double_double y.
Hypothesis Nx : bpow radix2 (-1022) <= Rabs (hi x).
Hypothesis Ny : bpow radix2 (-1022) <= Rabs (hi y).
Hypothesis Nxy : bpow radix2 (-967) <= Rabs (hi x * hi y).

Let xh := hi x. Let xl := lo x. Let yh := hi y. Let yl := lo y.
Let u := u64.
Let Fxh : format64 xh := proj1 Dx.
Let Fyh : format64 yh := proj1 Dy.
Let p := round64 (xh * yh). Let p_err := xh * yh - p.
Let r1 := round64 (xh * yl). Let r2 := round64 (xl * yh).
Let cross := round64 (r1 + r2).
Let low := round64 (p_err + cross).

Lemma product_error_nonzero :
  double_double (dd_product choice x y) /\
  Rabs (value (dd_product choice x y) - value x * value y) <= 7 * (u * u) * Rabs (value x * value y).
Proof.
  assert (Hu : u = / 9007199254740992) by apply u64_value.
  assert (E2 : two_prod choice xh yh = (p, p_err)).
  { apply two_prod_exact; [exact Fxh|exact Fyh|right]. split; [exact Nx|split; [exact Ny|]].
    refine (Rle_trans _ _ _ _ Nxy). apply bpow_le. lia. }
  (* powers of two around the high parts *)
  set (ex := (last_bit xh + 52)%Z). set (ey := (last_bit yh + 52)%Z). set (e := (ex + ey)%Z).
  set (A := bpow radix2 ex). set (C := bpow radix2 ey).
  assert (HA : 0 < A) by apply bpow_gt_0. assert (HC : 0 < C) by apply bpow_gt_0.
  assert (LA : A <= Rabs xh) by now apply above_last_bit.
  assert (LC : C <= Rabs yh) by now apply above_last_bit.
  assert (UA : Rabs xh < 2 * A).
  { replace (2 * A) with (bpow radix2 (last_bit xh + 53)); [apply below_last_bit|].
    replace (last_bit xh + 53)%Z with (1 + ex)%Z by (unfold ex; ring). rewrite bpow_plus. reflexivity. }
  assert (UC : Rabs yh < 2 * C).
  { replace (2 * C) with (bpow radix2 (last_bit yh + 53)); [apply below_last_bit|].
    replace (last_bit yh + 53)%Z with (1 + ey)%Z by (unfold ey; ring). rewrite bpow_plus. reflexivity. }
  set (B := bpow radix2 e).
  assert (EB : B = A * C) by apply bpow_plus.
  assert (HB : 0 < B) by apply bpow_gt_0.
  assert (Eb : forall k, bpow radix2 (e + k) = bpow radix2 k * B) by (intros k; rewrite bpow_plus; apply Rmult_comm).
  set (a := Rabs xh) in *. set (b := Rabs yh) in *.
  assert (Hab : Rabs (xh * yh) = a * b) by apply Rabs_mult.
  assert (Uab : a * b < 4 * B).
  { rewrite EB. replace (4 * (A * C)) with (2 * A * (2 * C)) by ring. apply Rmult_le_0_lt_compat; lra. }
  assert (Lab : B <= a * b) by (rewrite EB; apply Rmult_le_compat; lra).
  assert (He : (-968 <= e)%Z).
  { assert (L : bpow radix2 (-967) < bpow radix2 (e + 2)).
    { rewrite Eb. replace (bpow radix2 2) with 4 by reflexivity.
      refine (Rle_lt_trans _ _ _ Nxy _). change (hi x * hi y) with (xh * yh). rewrite Hab. lra. }
    apply lt_bpow in L. lia. }
  assert (Hex : (-1022 <= ex)%Z) by (assert (H := last_bit_ge xh Nx); unfold ex; lia).
  assert (Hey : (-1022 <= ey)%Z) by (assert (H := last_bit_ge yh Ny); unfold ey; lia).
  (* the low parts *)
  assert (Lxl : Rabs xl <= u * A).
  { assert (L := low_absolute x (ex + 1) Dx ltac:(lia)). fold xh xl in L.
    rewrite (bpow_plus radix2 ex 1) in L. change (bpow radix2 1) with 2 in L. fold A a in L.
    replace (ex + 1 - 54)%Z with (-53 + ex)%Z in L by ring. rewrite bpow_plus in L.
    fold u64 A in L. apply L. lra. }
  assert (Lyl : Rabs yl <= u * C).
  { assert (L := low_absolute y (ey + 1) Dy ltac:(lia)). fold yh yl in L.
    rewrite (bpow_plus radix2 ey 1) in L. change (bpow radix2 1) with 2 in L. fold C b in L.
    replace (ey + 1 - 54)%Z with (-53 + ey)%Z in L by ring. rewrite bpow_plus in L.
    fold u64 C in L. apply L. lra. }
  (* the small powers *)
  assert (P52 : bpow radix2 (e + -52) = 2 * (u * B)).
  { rewrite Eb, Hu. replace (bpow radix2 (-52)) with (/ 4503599627370496) by reflexivity. lra. }
  assert (P51 : bpow radix2 (e + -51) = 4 * (u * B)).
  { rewrite Eb, Hu. replace (bpow radix2 (-51)) with (/ 2251799813685248) by reflexivity. lra. }
  assert (P50 : bpow radix2 (e + -50) = 8 * (u * B)).
  { rewrite Eb, Hu. replace (bpow radix2 (-50)) with (/ 1125899906842624) by reflexivity. lra. }
  assert (Q : forall k j, bpow radix2 (e + k) = j * (u * B) -> bpow radix2 (e + k - 54) = / 2 * j * (u * (u * B))).
  { intros k j H. replace (e + k - 54)%Z with (-1 + -53 + (e + k))%Z by ring. rewrite bpow_plus, H, bpow_plus.
    fold u64. replace (bpow radix2 (-1)) with (/ 2) by reflexivity. unfold u. ring. }
  assert (Q52 := Q (-52)%Z 2 P52). assert (Q51 := Q (-51)%Z 4 P51). assert (Q50 := Q (-50)%Z 8 P50).
  assert (HuB : 0 < u * B) by (apply Rmult_lt_0_compat; [rewrite Hu; lra|exact HB]).
  assert (HuuB : 0 < u * (u * B)) by (apply Rmult_lt_0_compat; [rewrite Hu; lra|exact HuB]).
  (* the two cross products *)
  assert (Z1 : Rabs (xh * yl) <= a * (u * C)).
  { rewrite Rabs_mult. apply Rmult_le_compat_l; [apply Rabs_pos|exact Lyl]. }
  assert (Z2 : Rabs (xl * yh) <= b * (u * A)).
  { rewrite Rabs_mult, Rmult_comm. apply Rmult_le_compat_l; [apply Rabs_pos|exact Lxl]. }
  assert (aC : a * (u * C) <= 2 * (u * B)).
  { rewrite EB. replace (2 * (u * (A * C))) with ((2 * A) * (u * C)) by ring. apply Rmult_le_compat_r; [|lra].
    apply Rmult_le_pos; [rewrite Hu; lra|lra]. }
  assert (bA : b * (u * A) <= 2 * (u * B)).
  { rewrite EB. replace (2 * (u * (A * C))) with ((2 * C) * (u * A)) by ring. apply Rmult_le_compat_r; [|lra].
    apply Rmult_le_pos; [rewrite Hu; lra|lra]. }
  assert (e1 : Rabs (r1 - xh * yl) <= u * (u * B)).
  { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -52) ltac:(lia) _) _); [rewrite P52; lra|].
    rewrite Q52. lra. }
  assert (e2 : Rabs (r2 - xl * yh) <= u * (u * B)).
  { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -52) ltac:(lia) _) _); [rewrite P52; lra|].
    rewrite Q52. lra. }
  assert (T1 : Rabs r1 <= a * (u * C)).
  { apply round64_abs_le; [|exact Z1].
    replace (a * (u * C)) with (Rabs (xh * bpow radix2 (ey + -53))).
    - apply generic_format_abs. apply (multiple_format (last_bit xh + (ey + -53))).
      + apply multiple_mult; [now apply multiple_of_last_bit|]. exists 1%Z. ring.
      + unfold e, ex in He. lia.
      + rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 _)) by apply bpow_ge_0.
        replace (last_bit xh + (ey + -53) + 53)%Z with ((last_bit xh + 53) + (ey + -53))%Z by ring.
        rewrite (bpow_plus radix2 (last_bit xh + 53)). apply Rmult_le_compat_r; [apply bpow_ge_0|].
        apply Rlt_le, below_last_bit.
    - rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 _)) by apply bpow_ge_0.
      fold a. rewrite bpow_plus. fold C u64. fold u. ring. }
  assert (T2 : Rabs r2 <= b * (u * A)).
  { apply round64_abs_le; [|exact Z2].
    replace (b * (u * A)) with (Rabs (yh * bpow radix2 (ex + -53))).
    - apply generic_format_abs. apply (multiple_format (last_bit yh + (ex + -53))).
      + apply multiple_mult; [now apply multiple_of_last_bit|]. exists 1%Z. ring.
      + unfold e, ey in He. lia.
      + rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 _)) by apply bpow_ge_0.
        replace (last_bit yh + (ex + -53) + 53)%Z with ((last_bit yh + 53) + (ex + -53))%Z by ring.
        rewrite (bpow_plus radix2 (last_bit yh + 53)). apply Rmult_le_compat_r; [apply bpow_ge_0|].
        apply Rlt_le, below_last_bit.
    - rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 _)) by apply bpow_ge_0.
      fold b. rewrite bpow_plus. fold A u64. fold u. ring. }
  assert (T12 : Rabs (r1 + r2) <= Rabs r1 + Rabs r2) by apply Rabs_triang.
  assert (Epp : Rabs p_err = Rabs (p - xh * yh)) by apply Rabs_minus_sym.
  assert (Tl : Rabs (p_err + cross) <= Rabs p_err + Rabs cross) by apply Rabs_triang.
  assert (ell : Rabs (xl * yl) <= u * (u * B)).
  { rewrite Rabs_mult, EB. replace (u * (u * (A * C))) with ((u * A) * (u * C)) by ring.
    apply Rmult_le_compat; try apply Rabs_pos; assumption. }
  assert (Hvp : a * b <= Rabs p + Rabs p_err).
  { rewrite <- Hab. replace (xh * yh) with (p + p_err) by (unfold p_err; ring). apply Rabs_triang. }
  (* the value of the product, from below *)
  assert (Vx : (1 - u) * a <= Rabs (value x)).
  { assert (L := low_relative x Dx). fold xh xl in L. fold a in L.
    assert (Tr : a <= Rabs (value x) + Rabs xl).
    { unfold a. replace xh with (value x + - xl) by (unfold value; fold xh xl; ring).
      refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
    fold u in L. lra. }
  assert (Vy : (1 - u) * b <= Rabs (value y)).
  { assert (L := low_relative y Dy). fold yh yl in L. fold b in L.
    assert (Tr : b <= Rabs (value y) + Rabs yl).
    { unfold b. replace yh with (value y + - yl) by (unfold value; fold yh yl; ring).
      refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
    fold u in L. lra. }
  assert (Vxy : (1 - 2 * u) * (a * b) <= Rabs (value x * value y)).
  { rewrite Rabs_mult. apply (Rle_trans _ (((1 - u) * a) * ((1 - u) * b))).
    - replace ((1 - u) * a * ((1 - u) * b)) with ((1 - 2 * u) * (a * b) + u * u * (a * b)) by ring.
      assert (0 <= u * u * (a * b)) by (apply Rmult_le_pos; [rewrite Hu; lra|lra]). lra.
    - apply Rmult_le_compat; try (apply Rmult_le_pos; [rewrite Hu; lra|apply Rabs_pos]); assumption. }
  (* the steps that are common to all cases *)
  assert (Finish : forall k1 k2 k3 k4,
    Rabs (r1 - xh * yl) <= k1 * (u * (u * B)) -> Rabs (r2 - xl * yh) <= k2 * (u * (u * B)) ->
    Rabs (cross - (r1 + r2)) <= k3 * (u * (u * B)) -> Rabs (low - (p_err + cross)) <= k4 * (u * (u * B)) ->
    (k1 + k2 + k3 + k4 + 1) * (u * (u * B)) <= 7 * (u * u) * Rabs (value x * value y) ->
    Rabs low <= Rabs p ->
    double_double (dd_product choice x y) /\
    Rabs (value (dd_product choice x y) - value x * value y) <= 7 * (u * u) * Rabs (value x * value y)).
  { intros k1 k2 k3 k4 H1 H2 H3 H4 HV HF.
    assert (EP : dd_product choice x y = of_pair (fast_two_sum p low)).
    { unfold dd_product. fold xh yh. rewrite E2. reflexivity. }
    destruct (fast_two_sum_double_double p low (round64_format _) (round64_format _)
      (fast_two_sum_exact p low (round64_format _) (round64_format _) HF)) as [D V].
    rewrite EP. split; [exact D|]. rewrite V.
    replace (p + low - value x * value y)
      with ((r1 - xh * yl) + (r2 - xl * yh) + (cross - (r1 + r2)) + (low - (p_err + cross)) - xl * yl)
      by (unfold p_err, value; fold xh xl yh yl; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp.
    assert (X1 := Rabs_triang (r1 - xh * yl + (r2 - xl * yh) + (cross - (r1 + r2))) (low - (p_err + cross))).
    assert (X2 := Rabs_triang (r1 - xh * yl + (r2 - xl * yh)) (cross - (r1 + r2))).
    assert (X3 := Rabs_triang (r1 - xh * yl) (r2 - xl * yh)). lra. }
  assert (Low : Rabs low <= Rabs (p_err + cross) + Rabs (low - (p_err + cross))).
  { replace low with ((p_err + cross) + (low - (p_err + cross))) at 1 by ring. apply Rabs_triang. }
  destruct (Rle_or_lt (2 * B) (a * b)) as [HS|HS].
  - (* the product of the high parts is at least 2 B *)
    assert (Hpe : Rabs p_err <= 2 * (u * B)).
    { rewrite Epp, <- P52. replace (e + -52)%Z with (e + 2 - 54)%Z by ring.
      apply round_error_absolute; [lia|]. rewrite Hab, Eb. replace (bpow radix2 2) with 4 by reflexivity. lra. }
    assert (e3 : Rabs (cross - (r1 + r2)) <= 2 * (u * (u * B))).
    { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -51) ltac:(lia) _) _); [rewrite P51; lra|].
      rewrite Q51. lra. }
    assert (Lc : Rabs cross <= 4 * (u * B)).
    { apply round64_abs_le; [|lra]. rewrite <- P51. apply format64_bpow. lia. }
    assert (e4 : Rabs (low - (p_err + cross)) <= 4 * (u * (u * B))).
    { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -50) ltac:(lia) _) _); [rewrite P50; lra|].
      rewrite Q50. lra. }
    apply (Finish 1 1 2 4); rewrite Hu in *; lra.
  - (* the product of the high parts is below 2 B *)
    assert (Hsum : a * C + b * A <= a * b + B).
    { rewrite EB. assert (0 <= (a - A) * (b - C)) by (apply Rmult_le_pos; lra). lra. }
    assert (Hsum' : a * (u * C) + b * (u * A) <= 3 * (u * B)).
    { replace (a * (u * C) + b * (u * A)) with (u * (a * C + b * A)) by ring.
      replace (3 * (u * B)) with (u * (3 * B)) by ring. apply Rmult_le_compat_l; [rewrite Hu; lra|lra]. }
    assert (Hpe : Rabs p_err <= u * B).
    { rewrite Epp. apply (Rle_trans _ (bpow radix2 (e + 1 - 54))).
      - apply round_error_absolute; [lia|]. rewrite Hab, Eb. replace (bpow radix2 1) with 2 by reflexivity. lra.
      - replace (e + 1 - 54)%Z with (e + -53)%Z by ring. rewrite Eb. apply Rle_refl. }
    assert (e3 : Rabs (cross - (r1 + r2)) <= 2 * (u * (u * B))).
    { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -51) ltac:(lia) _) _); [rewrite P51; lra|].
      rewrite Q51. lra. }
    assert (Lc : Rabs cross <= 3 * (u * B)).
    { apply round64_abs_le; [|lra]. replace (3 * (u * B)) with (IZR 3 * bpow radix2 (e + -53)).
      - apply format_multiple; lia.
      - rewrite Eb. fold u64. reflexivity. }
    assert (e4 : Rabs (low - (p_err + cross)) <= 2 * (u * (u * B))).
    { refine (Rle_trans _ _ _ (round_error_absolute _ (e + -51) ltac:(lia) _) _); [rewrite P51; lra|].
      rewrite Q51. lra. }
    assert (HF : Rabs low <= Rabs p) by (rewrite Hu in *; lra).
    (* a high part that is a power of two makes a cross product exact; else the product is above 1 + 4 u *)
    assert (Step : forall h, format64 h -> bpow radix2 (-1022) <= Rabs h ->
      Rabs h = bpow radix2 (last_bit h + 52) \/ (1 + 2 * u) * bpow radix2 (last_bit h + 52) <= Rabs h).
    { intros h Fh Nh. assert (M := multiple_of_last_bit h Fh Nh).
      assert (L := above_last_bit h Nh). destruct (Rle_lt_or_eq_dec _ _ L) as [L'|E]; [right|now left].
      assert (Mb : multiple (last_bit h) (bpow radix2 (last_bit h + 52))).
      { exists (2 ^ 52)%Z. rewrite bpow_plus, Rmult_comm. f_equal. }
      assert (Ma : multiple (last_bit h) (Rabs h)).
      { destruct M as [z Hz]. exists (Z.abs z). rewrite Hz at 1. rewrite Rabs_mult, abs_IZR.
        now rewrite (Rabs_pos_eq (bpow radix2 _)) by apply bpow_ge_0. }
      assert (G := multiple_abs_ge _ _ (multiple_minus _ _ _ Ma Mb) ltac:(lra)).
      rewrite Rabs_pos_eq in G by lra.
      assert (E : 2 * u * bpow radix2 (last_bit h + 52) = bpow radix2 (last_bit h)).
      { rewrite bpow_plus. replace (bpow radix2 52) with 4503599627370496 by reflexivity. rewrite Hu. field. }
      lra. }
    assert (Small : bpow radix2 (-1075) <= / 2 * (u * (u * B))).
    { replace (/ 2 * (u * (u * B))) with (bpow radix2 (e + -107)); [apply bpow_le; lia|].
      replace (e + -107)%Z with (-1 + (-53 + (-53 + e)))%Z by ring. rewrite !bpow_plus.
      fold u64 u B. replace (bpow radix2 (-1)) with (/ 2) by reflexivity. ring. }
    assert (Whole : (1 + 2 * u) * A <= a -> (1 + 2 * u) * C <= b -> (1 + 4 * u) * B <= a * b).
    { intros H1 H2. apply (Rle_trans _ (((1 + 2 * u) * A) * ((1 + 2 * u) * C))).
      - rewrite EB. replace ((1 + 2 * u) * A * ((1 + 2 * u) * C))
          with ((1 + 4 * u) * (A * C) + 4 * (u * u) * (A * C)) by ring.
        assert (0 <= 4 * (u * u) * (A * C)) by (rewrite <- EB; apply Rmult_le_pos; [rewrite Hu; lra|lra]). lra.
      - apply Rmult_le_compat; try (apply Rmult_le_pos; [rewrite Hu; lra|lra]); assumption. }
    destruct (Step xh Fxh Nx) as [Ex|Ex].
    { assert (e1' : Rabs (r1 - xh * yl) <= / 2 * (u * (u * B))).
      { refine (Rle_trans _ _ _ (scaled_error xh yl _ (proj1 (proj2 Dy)) Ex) Small). }
      apply (Finish (/ 2) 1 2 2); rewrite Hu in *; lra. }
    destruct (Step yh Fyh Ny) as [Ey|Ey].
    { assert (e2' : Rabs (r2 - xl * yh) <= / 2 * (u * (u * B))).
      { unfold r2. rewrite (Rmult_comm xl). refine (Rle_trans _ _ _ (scaled_error yh xl _ (proj1 (proj2 Dx)) Ey) Small). }
      apply (Finish 1 (/ 2) 2 2); rewrite Hu in *; lra. }
    specialize (Whole Ex Ey). apply (Finish 1 1 2 2); rewrite Hu in *; lra.
Qed.

End Product.

(** [product] is within [7 u^2], and its result is a double-double; a factor may be zero. *)
Theorem dd_product_error choice x y :
  double_double x -> double_double y ->
  hi x * hi y = 0 \/ (bpow radix2 (-1022) <= Rabs (hi x) /\ bpow radix2 (-1022) <= Rabs (hi y)
                      /\ bpow radix2 (-967) <= Rabs (hi x * hi y)) ->
  double_double (dd_product choice x y) /\
  Rabs (value (dd_product choice x y) - value x * value y) <= 7 * (u64 * u64) * Rabs (value x * value y).
Proof.
  intros Dx Dy [H|[Nx [Ny Nxy]]]; [|now apply product_error_nonzero].
  assert (Z0 : round64 0 = 0) by apply round64_exact, format64_0.
  assert (L0 : forall a, double_double a -> hi a = 0 -> lo a = 0).
  { intros a Da Ha. assert (L := low_relative a Da). rewrite Ha, Rabs_R0, Rmult_0_r in L.
    destruct (Req_dec (lo a) 0) as [E|E]; [exact E|]. apply Rabs_pos_lt in E. lra. }
  assert (E : dd_product choice x y = Dd 0 0 /\ value x * value y = 0).
  { unfold dd_product. rewrite (two_prod_exact choice (hi x) (hi y) (proj1 Dx) (proj1 Dy) (or_introl H)).
    rewrite H, Z0. assert (V : lo x = 0 /\ hi x = 0 \/ lo y = 0 /\ hi y = 0).
    { apply Rmult_integral in H. destruct H as [H|H]; [left|right]; auto. }
    assert (Cross : round64 (hi x * lo y) = 0 /\ round64 (lo x * hi y) = 0).
    { destruct V as [[-> ->]|[-> ->]]; rewrite ?Rmult_0_l, ?Rmult_0_r, Z0; auto. }
    destruct Cross as [-> ->]. split.
    - unfold fast_two_sum, of_pair. simpl. repeat (rewrite ?Rplus_0_l, ?Rminus_0_r, ?Z0). reflexivity.
    - unfold value. destruct V as [[-> ->]|[-> ->]]; ring. }
  destruct E as [-> ->]. unfold double_double, value. simpl. rewrite Rplus_0_r, Z0.
  repeat split; try apply format64_0. rewrite Rminus_0_r, Rabs_R0. lra.
Qed.

(** * The quotient of two double-doubles *)

Lemma round_error_normal x : bpow radix2 (-1022) <= Rabs x -> Rabs (round64 x - x) <= u64 * Rabs x.
Proof.
  intros H.
  refine (Rle_trans _ _ _ (Relative.relative_error_N_FLT radix2 (-1074) 53 prec53 (fun x => negb (Z.even x)) x H) _).
  rewrite half_bpow. apply Rle_refl.
Qed.

Lemma round_error_any x : Rabs (round64 x - x) <= u64 * Rabs x + bpow radix2 (-1075).
Proof.
  destruct (round_error_relative x) as [e [He H]].
  replace (round64 x - x) with ((round64 x - x - e) + e) by ring.
  refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat; [exact H|exact He].
Qed.

(** Numbers that are close to each other are subtracted exactly. *)
Lemma close_difference_format a b :
  format64 a -> format64 b -> Rabs (b - a) <= / 2 * Rabs a -> format64 (a - b).
Proof.
  assert (Pos : forall a b, format64 a -> format64 b -> 0 <= a -> Rabs (b - a) <= / 2 * a -> format64 (a - b)).
  { clear. intros a b Fa Fb Ha H. apply Rabs_le_inv in H.
    apply sterbenz; [apply FLT_exp_valid; exact prec53|apply FLT_exp_monotone|exact Fa|exact Fb|lra]. }
  intros Fa Fb H. destruct (Rle_or_lt 0 a) as [S|S].
  - apply Pos; try assumption. now rewrite (Rabs_pos_eq a S) in H.
  - replace (a - b) with (- ((- a) - (- b))) by ring. apply format64_opp. rewrite (Rabs_left a S) in H.
    apply Pos; [now apply format64_opp|now apply format64_opp|lra|].
    replace (- b - - a) with (- (b - a)) by ring. now rewrite Rabs_Ropp.
Qed.

Lemma two_prod_format choice a b : format64 (snd (two_prod choice a b)).
Proof. unfold two_prod. destruct (split choice a), (split choice b). apply round64_format. Qed.

Lemma triangle_minus a b : Rabs (a - b) <= Rabs a + Rabs b.
Proof. unfold Rminus. rewrite <- (Rabs_Ropp b). apply Rabs_triang. Qed.

Lemma near_above a b : Rabs a <= Rabs b + Rabs (a - b).
Proof. replace a with (b + (a - b)) at 1 by ring. apply Rabs_triang. Qed.

(** [quotient] is within [15 u^2 + 56 u^3], and its result is a double-double, where nothing underflows. *)
Theorem dd_quotient_error choice a b :
  double_double a -> double_double b ->
  bpow radix2 (-900) <= Rabs (hi a) -> bpow radix2 (-1022) <= Rabs (hi b) ->
  bpow radix2 (-960) <= Rabs (hi a / hi b) ->
  double_double (dd_quotient choice a b) /\
  Rabs (value (dd_quotient choice a b) - value a / value b)
    <= (15 * (u64 * u64) + 56 * (u64 * (u64 * u64))) * Rabs (value a / value b).
Proof.
  intros Da Db Na Nb Nq.
  destruct Da as [Fah [Fal Ea]] eqn:EDa. clear EDa. destruct Db as [Fbh [Fbl Eb]] eqn:EDb. clear EDb.
  assert (La := low_relative a (conj Fah (conj Fal Ea))). assert (Lb := low_relative b (conj Fbh (conj Fbl Eb))).
  set (ah := hi a) in *. set (al := lo a) in *. set (bh := hi b) in *. set (bl := lo b) in *.
  assert (Hu : u64 = / 9007199254740992) by apply u64_value. set (u := u64) in *.
  assert (Hbh : bh <> 0) by (intros E; rewrite E, Rabs_R0 in Nb; assert (B := bpow_gt_0 radix2 (-1022)); lra).
  set (A := Rabs ah) in *.
  assert (HA : 0 < A) by (refine (Rlt_le_trans _ _ _ (bpow_gt_0 radix2 (-900)) Na)).
  (* underflow terms *)
  set (eta := bpow radix2 (-1075)) in *.
  assert (Heta : eta <= u * (u * (u * A))).
  { apply (Rle_trans _ (u * (u * (u * bpow radix2 (-900))))).
    - unfold u, u64. rewrite <- !bpow_plus. unfold eta. apply bpow_le. lia.
    - repeat (apply Rmult_le_compat_l; [rewrite Hu; lra|]). exact Na. }
  assert (Heta' : eta * Rabs bh <= / 512 * (u * (u * A))).
  { assert (HB : bpow radix2 (-960) * Rabs bh <= A).
    { apply (Rle_trans _ (Rabs (ah / bh) * Rabs bh)); [apply Rmult_le_compat_r; [apply Rabs_pos|exact Nq]|].
      rewrite <- Rabs_mult. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by exact Hbh. apply Rle_refl. }
    replace eta with (/ 512 * (u * (u * bpow radix2 (-960)))).
    - rewrite !Rmult_assoc. apply Rmult_le_compat_l; [lra|].
      repeat (apply Rmult_le_compat_l; [rewrite Hu; lra|]). exact HB.
    - replace (/ 512) with (bpow radix2 (-9)) by reflexivity. unfold u, u64. rewrite <- !bpow_plus. reflexivity. }
  (* q *)
  set (q := round64 (ah / bh)).
  assert (Hq : Rabs (q - ah / bh) <= u * Rabs (ah / bh)).
  { apply round_error_normal. refine (Rle_trans _ _ _ _ Nq). apply bpow_le. lia. }
  assert (Hbq : Rabs (bh * q - ah) <= u * A).
  { replace (bh * q - ah) with (bh * (q - ah / bh)) by (field; exact Hbh).
    replace A with (Rabs bh * Rabs (ah / bh)).
    - rewrite Rabs_mult. replace (u * (Rabs bh * Rabs (ah / bh))) with (Rabs bh * (u * Rabs (ah / bh))) by ring.
      apply Rmult_le_compat_l; [apply Rabs_pos|exact Hq].
    - rewrite <- Rabs_mult. unfold A. f_equal. field. exact Hbh. }
  assert (Fq : format64 q) by apply round64_format.
  assert (Qlow : bpow radix2 (-961) <= Rabs q).
  { assert (N := near_above (ah / bh) q). rewrite (Rabs_minus_sym _ q) in N.
    assert (E : bpow radix2 (-960) = 2 * bpow radix2 (-961)) by (rewrite <- (bpow_plus radix2 1); reflexivity).
    rewrite Hu in Hq. assert (P := Rabs_pos (ah / bh)). lra. }
  assert (Pup := near_above (bh * q) ah). assert (Plow := near_above ah (bh * q)).
  rewrite (Rabs_minus_sym ah) in Plow. fold A in Pup, Plow.
  set (P := Rabs (bh * q)) in *.
  (* bh q = p + p_err *)
  set (p := round64 (bh * q)). set (p_err := bh * q - p).
  assert (E1 : two_prod choice bh q = (p, p_err)).
  { apply two_prod_exact; [exact Fbh|exact Fq|right].
    split; [exact Nb|split].
    - refine (Rle_trans _ _ _ _ Qlow). apply bpow_le. lia.
    - fold P. assert (E : bpow radix2 (-900) = 295147905179352825856 * bpow radix2 (-968)).
      { replace (-900)%Z with (68 + -968)%Z by ring. rewrite bpow_plus. reflexivity. }
      assert (B := bpow_gt_0 radix2 (-968)). rewrite Hu in *. lra. }
  assert (Fpe : format64 p_err) by (assert (F := two_prod_format choice bh q); now rewrite E1 in F).
  assert (Hpe : Rabs p_err <= u * P).
  { unfold p_err. rewrite Rabs_minus_sym. apply round_error_normal. fold P.
    assert (B : bpow radix2 (-1022) <= bpow radix2 (-901)) by (apply bpow_le; lia).
    assert (E : bpow radix2 (-900) = 2 * bpow radix2 (-901)) by (rewrite <- (bpow_plus radix2 1); reflexivity).
    rewrite Hu in *. lra. }
  (* bl q *)
  assert (Zbl : Rabs (bl * q) <= u * P).
  { unfold P. rewrite !Rabs_mult, <- Rmult_assoc. apply Rmult_le_compat_r; [apply Rabs_pos|exact Lb]. }
  set (s1 := round64 (bl * q)).
  assert (D1 : Rabs (s1 - bl * q) <= u * Rabs (bl * q) + eta) by apply round_error_any.
  assert (S1 := near_above s1 (bl * q)).
  assert (Pp := near_above (bh * q) p). fold P in Pp. fold p_err in Pp.
  assert (E2 : fast_two_sum p s1 = (round64 (p + s1), p + s1 - round64 (p + s1))).
  { apply fast_two_sum_exact; try apply round64_format. rewrite Hu in *. lra. }
  set (t := round64 (p + s1)) in *. set (t_err := p + s1 - t) in *.
  assert (Fte : format64 t_err) by (apply rounding_error_format; apply round64_format).
  assert (Hte : Rabs t_err <= u * Rabs (p + s1)).
  { unfold t_err, t. rewrite Rabs_minus_sym. apply sum_error_relative; apply round64_format. }
  assert (Hps : Rabs (p + s1) <= Rabs p + Rabs s1) by apply Rabs_triang.
  assert (Ppu : Rabs p <= P + Rabs p_err).
  { unfold P. replace p with (bh * q - p_err) by (unfold p_err; ring). apply triangle_minus. }
  assert (Ptu : Rabs p <= Rabs t + Rabs s1 + Rabs t_err).
  { replace p with (t - s1 + t_err) by (unfold t_err; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r, triangle_minus. }
  set (s2 := round64 (t_err + p_err)).
  assert (D2 : Rabs (s2 - (t_err + p_err)) <= u * Rabs (t_err + p_err)) by now apply sum_error_relative.
  assert (S2 := near_above s2 (t_err + p_err)).
  assert (Htp : Rabs (t_err + p_err) <= Rabs t_err + Rabs p_err) by apply Rabs_triang.
  assert (E3 : fast_two_sum t s2 = (round64 (t + s2), t + s2 - round64 (t + s2))).
  { apply fast_two_sum_exact; try apply round64_format. rewrite Hu in *. lra. }
  set (r := round64 (t + s2)) in *. set (r_err := t + s2 - r) in *.
  assert (Fre : format64 r_err) by (apply rounding_error_format; apply round64_format).
  assert (Hre : Rabs r_err <= u * Rabs (t + s2)).
  { unfold r_err, r. rewrite Rabs_minus_sym. apply sum_error_relative; apply round64_format. }
  assert (Er : r + r_err = bh * q + bl * q + (s1 - bl * q) + (s2 - (t_err + p_err)))
    by (unfold r_err, t_err, p_err; ring).
  assert (Hts : Rabs (t + s2) <= P + Rabs (bl * q) + Rabs (s1 - bl * q) + Rabs (s2 - (t_err + p_err))).
  { replace (t + s2) with (r + r_err) by (unfold r_err; ring). rewrite Er. unfold P.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r, Rabs_triang. }
  (* the remainder *)
  assert (Hra : Rabs (r - ah) <= Rabs (bh * q - ah) + Rabs (bl * q) + Rabs (s1 - bl * q)
    + Rabs (s2 - (t_err + p_err)) + Rabs r_err).
  { replace (r - ah) with ((bh * q - ah) + bl * q + (s1 - bl * q) + (s2 - (t_err + p_err)) - r_err) by lra.
    refine (Rle_trans _ _ _ (triangle_minus _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r, Rabs_triang. }
  assert (Fd : format64 (ah - r)).
  { apply close_difference_format; [exact Fah|apply round64_format|]. fold A. rewrite Hu in *. lra. }
  set (d2 := round64 (al - r_err)).
  assert (D3 : Rabs (d2 - (al - r_err)) <= u * Rabs (al - r_err)).
  { unfold d2, Rminus at 1 3. apply sum_error_relative; [exact Fal|now apply format64_opp]. }
  assert (Har := triangle_minus al r_err).
  set (rest := round64 ((ah - r) + d2)).
  assert (D4 : Rabs (rest - ((ah - r) + d2)) <= u * Rabs ((ah - r) + d2)).
  { apply sum_error_relative; [exact Fd|apply round64_format]. }
  assert (Hd : Rabs ((ah - r) + d2) <= Rabs (bh * q - ah) + Rabs al + Rabs (bl * q) + Rabs (s1 - bl * q)
    + Rabs (s2 - (t_err + p_err)) + Rabs (d2 - (al - r_err))).
  { replace ((ah - r) + d2)
      with (al - (bh * q - ah) - bl * q - (s1 - bl * q) - (s2 - (t_err + p_err)) + (d2 - (al - r_err))) by lra.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (triangle_minus _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (triangle_minus _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (triangle_minus _ _) _). apply Rplus_le_compat_r.
    refine (Rle_trans _ _ _ (triangle_minus _ _) _). rewrite (Rplus_comm (Rabs al)). apply Rle_refl. }
  assert (Hrest := near_above rest ((ah - r) + d2)).
  (* the correction *)
  set (low := round64 (rest / bh)).
  assert (D5 : Rabs (low * bh - rest) <= u * Rabs rest + eta * Rabs bh).
  { assert (X := round_error_any (rest / bh)). fold low in X.
    replace (low * bh - rest) with ((low - rest / bh) * bh) by (field; exact Hbh).
    replace (u * Rabs rest) with (u * Rabs (rest / bh) * Rabs bh).
    - rewrite Rabs_mult, <- Rmult_plus_distr_r. apply Rmult_le_compat_r; [apply Rabs_pos|exact X].
    - rewrite Rmult_assoc, <- Rabs_mult. do 2 f_equal. field. exact Hbh. }
  assert (Hlow := near_above (low * bh) rest).
  assert (Zlb : Rabs (low * bl) <= u * Rabs (low * bh)).
  { rewrite !Rabs_mult. replace (u * (Rabs low * Rabs bh)) with (Rabs low * (u * Rabs bh)) by ring.
    apply Rmult_le_compat_l; [apply Rabs_pos|exact Lb]. }
  assert (HF : Rabs low <= Rabs q).
  { apply (Rmult_le_reg_r (Rabs bh)); [now apply Rabs_pos_lt|]. rewrite <- !Rabs_mult, (Rmult_comm q).
    fold P. rewrite Hu in *. lra. }
  assert (EQ : dd_quotient choice a b = of_pair (fast_two_sum q low)).
  { unfold dd_quotient. fold ah bh al bl q. rewrite E1. fold s1. rewrite E2. fold t t_err s2. rewrite E3.
    fold r r_err. rewrite (round64_exact (ah - r) Fd). reflexivity. }
  destruct (fast_two_sum_double_double q low Fq (round64_format _)
    (fast_two_sum_exact q low Fq (round64_format _) HF)) as [D V].
  rewrite EQ. split; [exact D|]. rewrite V.
  (* the error, times b *)
  set (va := value a). set (vb := value b).
  assert (Eva : va = ah + al) by reflexivity. assert (Evb : vb = bh + bl) by reflexivity.
  assert (Hvb : vb <> 0).
  { intros E. assert (X := near_above bh (- bl)). rewrite Rabs_Ropp in X.
    replace (bh - - bl) with 0 in X by lra. rewrite Rabs_R0 in X.
    assert (Y := Rabs_pos_lt bh Hbh). rewrite Hu in Lb. lra. }
  assert (Hva : A <= Rabs va + Rabs al).
  { unfold A. replace ah with (va - al) by lra. apply triangle_minus. }
  assert (Herr : (q + low) * vb - va
    = (rest - ((ah - r) + d2)) + (d2 - (al - r_err)) - (s1 - bl * q) - (s2 - (t_err + p_err))
      + (low * bh - rest) + low * bl).
  { rewrite Eva, Evb. replace ((q + low) * (bh + bl)) with (bh * q + bl * q + low * bh + low * bl) by ring. lra. }
  assert (Bound : Rabs ((q + low) * vb - va) <= (15 * (u * u) + 56 * (u * (u * u))) * Rabs va).
  { rewrite Herr.
    assert (X1 := Rabs_triang (rest - (ah - r + d2) + (d2 - (al - r_err)) - (s1 - bl * q) - (s2 - (t_err + p_err))
      + (low * bh - rest)) (low * bl)).
    assert (X2 := Rabs_triang (rest - (ah - r + d2) + (d2 - (al - r_err)) - (s1 - bl * q) - (s2 - (t_err + p_err)))
      (low * bh - rest)).
    assert (X3 := triangle_minus (rest - (ah - r + d2) + (d2 - (al - r_err)) - (s1 - bl * q)) (s2 - (t_err + p_err))).
    assert (X4 := triangle_minus (rest - (ah - r + d2) + (d2 - (al - r_err))) (s1 - bl * q)).
    assert (X5 := Rabs_triang (rest - (ah - r + d2)) (d2 - (al - r_err))).
    rewrite Hu in *. lra. }
  replace (q + low - va / vb) with (((q + low) * vb - va) / vb) by (field; exact Hvb).
  unfold Rdiv at 1 2. rewrite !Rabs_mult, <- Rmult_assoc.
  apply Rmult_le_compat_r; [apply Rabs_pos|exact Bound].
Qed.

(** * Division, with the path for small numerators *)

(** Both parts times a power of two: [times_power]. *)
Definition times_power (a : dd) (k : Z) : dd :=
  Dd (round64 (hi a * bpow radix2 k)) (round64 (lo a * bpow radix2 k)).

(** `/` on finite numbers: a zero quotient at once, small numerators by [quotient_scaled] with shifts of 200. *)
Definition dd_div (choice : Z -> bool) (a b : dd) : dd :=
  let q := round64 (hi a / hi b) in
  if Req_bool q 0 then Dd q 0
  else if Rlt_bool (Rabs (hi a)) (bpow radix2 (-900)) then
    times_power (dd_quotient choice (times_power a 200) (times_power b 200)) 0
  else dd_quotient choice a b.

Lemma scaled_up_format x k : (0 <= k)%Z -> format64 x -> format64 (x * bpow radix2 k).
Proof.
  intros Hk F. destruct (Req_dec x 0) as [->|H0]; [rewrite Rmult_0_l; apply format64_0|].
  set (e := Z.max (mag radix2 x - 53) (-1074)).
  assert (M : multiple e x).
  { apply format_is_multiple; [exact F|]. destruct (Z_le_gt_dec (mag radix2 x - 53) (-1074)); [left; lia|right].
    unfold e. rewrite Z.max_l by lia. replace (mag radix2 x - 53 + 52)%Z with (mag radix2 x - 1)%Z by ring.
    now apply bpow_mag_le. }
  apply (multiple_format (e + k)); [|lia|].
  - apply multiple_mult; [exact M|]. exists 1%Z. ring.
  - rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 k)) by apply bpow_ge_0.
    replace (e + k + 53)%Z with (e + 53 + k)%Z by ring. rewrite bpow_plus.
    apply Rmult_le_compat_r; [apply bpow_ge_0|].
    apply (Rle_trans _ (bpow radix2 (mag radix2 x))); [apply Rlt_le, bpow_mag_gt|apply bpow_le; unfold e; lia].
Qed.

(** Rounding commutes with scaling upward, away from the subnormal numbers. *)
Lemma round64_scaled x k :
  (0 <= k)%Z -> bpow radix2 (-1022) <= Rabs x -> round64 (x * bpow radix2 k) = round64 x * bpow radix2 k.
Proof.
  intros Hk Hx.
  assert (H0 : x <> 0) by (intros E; rewrite E, Rabs_R0 in Hx; assert (B := bpow_gt_0 radix2 (-1022)); lra).
  assert (M := mag_ge_bpow radix2 x (-1021)). simpl Z.sub in M. specialize (M Hx).
  unfold round64, round, scaled_mantissa, F2R. simpl.
  assert (C : cexp radix2 (FLT_exp (-1074) 53) (x * bpow radix2 k) = (cexp radix2 (FLT_exp (-1074) 53) x + k)%Z).
  { unfold cexp. rewrite mag_mult_bpow by exact H0. unfold FLT_exp. lia. }
  rewrite C. rewrite (bpow_plus radix2 _ k), <- Rmult_assoc. do 4 f_equal.
  rewrite Rmult_assoc, <- bpow_plus. f_equal. f_equal. ring.
Qed.

Lemma times_power_exact a k :
  (0 <= k)%Z -> double_double a ->
  hi (times_power a k) = hi a * bpow radix2 k /\ lo (times_power a k) = lo a * bpow radix2 k
  /\ double_double (times_power a k).
Proof.
  intros Hk [Fh [Fl E]].
  assert (Eh : hi (times_power a k) = hi a * bpow radix2 k)
    by (simpl; apply round64_exact; now apply scaled_up_format).
  assert (El : lo (times_power a k) = lo a * bpow radix2 k)
    by (simpl; apply round64_exact; now apply scaled_up_format).
  split; [exact Eh|split; [exact El|]]. unfold double_double. rewrite Eh, El.
  split; [now apply scaled_up_format|split; [now apply scaled_up_format|]].
  rewrite <- Rmult_plus_distr_r.
  destruct (Rle_or_lt (bpow radix2 (-1022)) (Rabs (hi a + lo a))) as [H|H].
  - rewrite round64_scaled by assumption. now rewrite <- E.
  - assert (X : round64 (hi a + lo a) = hi a + lo a).
    { apply sum_small_exact; [exact Fh|exact Fl|]. apply Rlt_le, (Rlt_le_trans _ _ _ H), bpow_le. lia. }
    rewrite X in E. replace (hi a + lo a) with (hi a) by exact E. symmetry. apply round64_exact.
    now apply scaled_up_format.
Qed.

(** `/` is within [15 u^2 + 56 u^3], where the quotient is at least [2^-960] in magnitude or the numerator is zero. *)
Theorem dd_div_error choice a b :
  double_double a -> double_double b -> hi b <> 0 ->
  hi a = 0 \/ bpow radix2 (-960) <= Rabs (hi a / hi b) ->
  Rabs (hi a) < bpow radix2 (-900) \/ bpow radix2 (-1022) <= Rabs (hi b) ->
  double_double (dd_div choice a b) /\
  Rabs (value (dd_div choice a b) - value a / value b)
    <= (15 * (u64 * u64) + 56 * (u64 * (u64 * u64))) * Rabs (value a / value b).
Proof.
  intros Da Db Hb [Ha|Hq] Hpath.
  - (* a zero *)
    assert (La := low_relative a Da). rewrite Ha, Rabs_R0, Rmult_0_r in La.
    assert (Hl : lo a = 0) by (destruct (Req_dec (lo a) 0) as [E|E]; [exact E|apply Rabs_pos_lt in E; lra]).
    assert (Z0 : round64 0 = 0) by apply round64_exact, format64_0.
    assert (Q0 : round64 (hi a / hi b) = 0) by (rewrite Ha; unfold Rdiv; now rewrite Rmult_0_l).
    unfold dd_div. rewrite Q0, Req_bool_true by reflexivity.
    unfold value. rewrite Ha, Hl. simpl. unfold Rdiv. rewrite !Rplus_0_r, Rmult_0_l, Rminus_0_r, Rabs_R0, Rmult_0_r.
    split; [|apply Rle_refl]. unfold double_double. simpl. rewrite Rplus_0_r, Z0.
    repeat split; apply format64_0.
  - assert (Q1 : round64 (hi a / hi b) <> 0).
    { assert (N : Rabs (round64 (hi a / hi b) - hi a / hi b) <= u64 * Rabs (hi a / hi b)).
      { apply round_error_normal. refine (Rle_trans _ _ _ _ Hq). apply bpow_le. lia. }
      intros E. rewrite E, Rminus_0_l, Rabs_Ropp, u64_value in N.
      assert (B := bpow_gt_0 radix2 (-960)). lra. }
    unfold dd_div. rewrite Req_bool_false by exact Q1.
    destruct (Rlt_bool_spec (Rabs (hi a)) (bpow radix2 (-900))) as [Hs|Hs].
    + (* a small numerator *)
      destruct (times_power_exact a 200 ltac:(lia) Da) as [Eah [Eal Da']].
      destruct (times_power_exact b 200 ltac:(lia) Db) as [Ebh [Ebl Db']].
      assert (P := bpow_gt_0 radix2 200).
      assert (Va : value (times_power a 200) = value a * bpow radix2 200) by (unfold value; rewrite Eah, Eal; ring).
      assert (Vb : value (times_power b 200) = value b * bpow radix2 200) by (unfold value; rewrite Ebh, Ebl; ring).
      assert (Least : forall x, format64 x -> x <> 0 -> bpow radix2 (-874) <= Rabs (x * bpow radix2 200)).
      { intros x Fx Hx. assert (M : multiple (-1074) x) by (apply format_is_multiple; [exact Fx|left; lia]).
        assert (G := multiple_abs_ge _ _ M Hx).
        rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 200)) by lra.
        replace (-874)%Z with (-1074 + 200)%Z by ring. rewrite bpow_plus. apply Rmult_le_compat_r; lra. }
      assert (Ha : hi a <> 0).
      { intros E. rewrite E in Hq. unfold Rdiv in Hq. rewrite Rmult_0_l, Rabs_R0 in Hq.
        assert (B := bpow_gt_0 radix2 (-960)). lra. }
      assert (La := Least _ (proj1 Da) Ha). assert (Lb := Least _ (proj1 Db) Hb).
      assert (Eq : hi (times_power a 200) / hi (times_power b 200) = hi a / hi b)
        by (rewrite Eah, Ebh; field; lra).
      destruct (dd_quotient_error choice (times_power a 200) (times_power b 200) Da' Db') as [D E].
      * rewrite Eah. refine (Rle_trans _ _ _ _ La). apply bpow_le. lia.
      * rewrite Ebh. refine (Rle_trans _ _ _ _ Lb). apply bpow_le. lia.
      * now rewrite Eq.
      * set (r := dd_quotient choice (times_power a 200) (times_power b 200)) in *.
        destruct (times_power_exact r 0 ltac:(lia) D) as [Erh [Erl Dr]]. split; [exact Dr|].
        assert (Vr : value (times_power r 0) = value r) by (unfold value; rewrite Erh, Erl; simpl; ring).
        assert (Hvb : value b <> 0).
        { assert (L := low_relative b Db). intros Ez. unfold value in Ez.
          replace (lo b) with (- hi b) in L by lra. rewrite Rabs_Ropp, u64_value in L.
          apply Rabs_pos_lt in Hb. lra. }
        assert (Ev : value (times_power a 200) / value (times_power b 200) = value a / value b)
          by (rewrite Va, Vb; field; lra).
        rewrite Vr. now rewrite Ev in E.
    + apply dd_quotient_error; try assumption. destruct Hpath as [H|H]; [lra|exact H].
Qed.
