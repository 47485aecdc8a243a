(** Double-double arithmetic: the programs of [Dd] in binary64, with their errors.

    A double-double is a pair of binary64 numbers whose first is the rounded sum of both. The programs are those of
    the crate on finite numbers, operation by operation; overflow is outside of the format (the crate redoes such
    operations on scaled operands). With [u = 2^-53]:

    - [dd_sum_error]: [sum] (`+`, `-`) is within [3 u^2 + 13 u^3] of the exact sum, relatively, and its result is a
      double-double. No condition on underflow: sums have no underflow error. *)

From Coq Require Import Reals ZArith Lia Lra.
From Flocq Require Import Core Plus_error Sterbenz Pff2Flocq.
From SusOracle Require Import Sums Binary64.

Open Scope R_scope.

(** * The programs *)

(** [two_sum] (Knuth). *)
Definition two_sum (a b : R) : R * R :=
  let s := round64 (a + b) in
  let b_seen := round64 (s - a) in
  (s, round64 (round64 (a - round64 (s - b_seen)) + round64 (b - b_seen))).

(** [fast_two_sum] (Dekker). *)
Definition fast_two_sum (a b : R) : R * R :=
  let s := round64 (a + b) in
  (s, round64 (b - round64 (s - a))).

Record dd := Dd { hi : R; lo : R }.
Definition of_pair (p : R * R) : dd := Dd (fst p) (snd p).

Definition value (a : dd) : R := hi a + lo a.
Definition double_double (a : dd) : Prop :=
  format64 (hi a) /\ format64 (lo a) /\ hi a = round64 (hi a + lo a).

(** [sum]: JMP's algorithm 6. *)
Definition dd_sum (a b : dd) : dd :=
  let (s, s_err) := two_sum (hi a) (hi b) in
  let (t, t_err) := two_sum (lo a) (lo b) in
  let (v, v_err) := fast_two_sum s (round64 (s_err + t)) in
  of_pair (fast_two_sum v (round64 (t_err + v_err))).

(** * Error-free sums *)

Lemma nearest_even_symmetric x : negb (Z.even x) = negb (negb (Z.even (- (x + 1)))).
Proof. rewrite Z.even_opp, Z.even_add. now destruct (Z.even x). Qed.

Theorem two_sum_exact a b :
  format64 a -> format64 b -> two_sum a b = (round64 (a + b), a + b - round64 (a + b)).
Proof.
  intros Fa Fb. unfold two_sum. f_equal.
  assert (T := TwoSum_correct (-1074) 53 (fun x => negb (Z.even x)) eq_refl ltac:(lia)
    nearest_even_symmetric a b Fa Fb).
  change (round radix2 (FLT_exp (-1074) 53) (Znearest (fun x => negb (Z.even x)))) with round64 in T.
  lra.
Qed.

(** The low part is exact where [s - a] is a number of the format. *)
Lemma fast_two_sum_exact_if a b :
  format64 a -> format64 b -> format64 (round64 (a + b) - a) ->
  fast_two_sum a b = (round64 (a + b), a + b - round64 (a + b)).
Proof.
  intros Fa Fb F. unfold fast_two_sum. f_equal.
  rewrite (round64_exact (round64 (a + b) - a) F), round64_exact; [ring|].
  replace (b - (round64 (a + b) - a)) with (- (round64 (a + b) - (a + b))) by ring.
  now apply format64_opp, sum_error_format.
Qed.

Theorem fast_two_sum_exact a b :
  format64 a -> format64 b -> Rabs b <= Rabs a ->
  fast_two_sum a b = (round64 (a + b), a + b - round64 (a + b)).
Proof.
  intros Fa Fb H. unfold fast_two_sum. f_equal.
  assert (T := Fast2Sum_correct (-1074) 53 (fun x => negb (Z.even x)) eq_refl ltac:(lia)
    nearest_even_symmetric a b Fa Fb H).
  change (round radix2 (FLT_exp (-1074) 53) (Znearest (fun x => negb (Z.even x)))) with round64 in T.
  replace (round64 (a + b) - a) with (- (a - round64 (a + b))) by ring.
  rewrite round64_opp. unfold Rminus at 1. rewrite Ropp_involutive. lra.
Qed.

Lemma fast_two_sum_of_zero b :
  format64 b -> fast_two_sum 0 b = (round64 (0 + b), 0 + b - round64 (0 + b)).
Proof.
  intros Fb. apply fast_two_sum_exact_if; [apply format64_0|exact Fb|].
  rewrite Rminus_0_r. apply round64_format.
Qed.

(** The result of an exact [fast_two_sum] is a double-double. *)
Lemma fast_two_sum_double_double a b :
  format64 a -> format64 b -> fast_two_sum a b = (round64 (a + b), a + b - round64 (a + b)) ->
  double_double (of_pair (fast_two_sum a b)) /\ value (of_pair (fast_two_sum a b)) = a + b.
Proof.
  intros Fa Fb E. rewrite E. unfold double_double, value, of_pair. simpl.
  replace (round64 (a + b) + (a + b - round64 (a + b))) with (a + b) by ring.
  repeat split; [apply round64_format|].
  replace (a + b - round64 (a + b)) with (- (round64 (a + b) - (a + b))) by ring.
  now apply format64_opp, sum_error_format.
Qed.

(** * The low part of a double-double *)

Lemma low_relative a : double_double a -> Rabs (lo a) <= u64 * Rabs (hi a).
Proof.
  intros [Fh [Fl E]].
  assert (H := sum_error_relative_to_result (hi a) (lo a) Fh Fl). rewrite <- E in H.
  replace (hi a - (hi a + lo a)) with (- lo a) in H by ring. now rewrite Rabs_Ropp in H.
Qed.

Lemma low_absolute a k :
  double_double a -> (-1074 <= k)%Z -> Rabs (hi a) < bpow radix2 k -> Rabs (lo a) <= bpow radix2 (k - 54).
Proof.
  intros [Fh [Fl E]] Hk H.
  replace (lo a) with (- (hi a - (hi a + lo a))) by ring. rewrite Rabs_Ropp. rewrite E at 1.
  apply sum_error_absolute; [exact Fh|exact Fl|].
  assert (B : round64 (bpow radix2 k) = bpow radix2 k) by now apply round64_exact, format64_bpow.
  apply Rabs_le. apply Rabs_lt_inv in H. split.
  - apply Rnot_lt_le. intros L. apply Rlt_le in L. apply round64_mono in L.
    rewrite <- E, round64_opp, B in L. lra.
  - apply Rnot_lt_le. intros L. apply Rlt_le in L. apply round64_mono in L. rewrite <- E, B in L. lra.
Qed.

(** * The sum *)

Section Sum.

Variables x y : dd.
Hypothesis Dx : double_double x.
Hypothesis Dy : double_double y.

Let xh := hi x. Let xl := lo x. Let yh := hi y. Let yl := lo y.
Let sh := round64 (xh + yh). Let sl := xh + yh - sh.
Let th := round64 (xl + yl). Let tl := xl + yl - th.
Let c := round64 (sl + th).
Let vh := round64 (sh + c). Let vl := sh + c - vh.
Let w := round64 (tl + vl).
Let T := value x + value y.
Let u := u64.

Let Fxh : format64 xh := proj1 Dx.
Let Fxl : format64 xl := proj1 (proj2 Dx).
Let Fyh : format64 yh := proj1 Dy.
Let Fyl : format64 yl := proj1 (proj2 Dy).

Lemma rounding_error_format a b : format64 a -> format64 b -> format64 (a + b - round64 (a + b)).
Proof.
  intros Fa Fb. replace (a + b - round64 (a + b)) with (- (round64 (a + b) - (a + b))) by ring.
  now apply format64_opp, sum_error_format.
Qed.

Let Fsl : format64 sl := rounding_error_format xh yh Fxh Fyh.
Let Ftl : format64 tl := rounding_error_format xl yl Fxl Fyl.
Let Fc : format64 c := round64_format _.
Let Fsh : format64 sh := round64_format _.
Let Fth : format64 th := round64_format _.
Let Fvh : format64 vh := round64_format _.
Let Fvl : format64 vl := rounding_error_format sh c Fsh Fc.
Let Fw : format64 w := round64_format _.

(** What remains is to see that the two fast sums are exact, and to bound the two roundings [c] and [w]. *)
Lemma sum_from_parts :
  fast_two_sum sh c = (vh, vl) ->
  fast_two_sum vh w = (round64 (vh + w), vh + w - round64 (vh + w)) ->
  double_double (dd_sum x y) /\
  value (dd_sum x y) - T = (c - (sl + th)) + (w - (tl + vl)).
Proof.
  intros E1 E2.
  assert (E : dd_sum x y = of_pair (fast_two_sum vh w)).
  { unfold dd_sum. rewrite (two_sum_exact (hi x) (hi y) Fxh Fyh), (two_sum_exact (lo x) (lo y) Fxl Fyl).
    fold xh yh xl yl sh th. fold sl tl. fold c. now rewrite E1. }
  destruct (fast_two_sum_double_double vh w Fvh Fw E2) as [D V]. rewrite E. split; [exact D|].
  rewrite V. unfold T, value. fold xh yh xl yl. unfold vl, tl, sl. ring.
Qed.

(** Where no cancellation makes [xh + yh] small: [M] measures the sum from below. *)
Lemma sum_without_cancellation M :
  0 < M -> Rabs (c - (sl + th)) <= (2 * (u * u) + u * (u * u)) * M -> Rabs tl <= 2 * (u * u) * M ->
  M * (1 - 3 * u) <= Rabs T -> Rabs c <= Rabs sh ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - T) <= (3 * (u * u) + 13 * (u * (u * u))) * Rabs T.
Proof.
  intros HM Hc Ht HT Hcs.
  assert (E1 : fast_two_sum sh c = (vh, vl)) by now apply fast_two_sum_exact.
  assert (ES : sh + c = T - tl + (c - (sl + th))).
  { unfold T, value. fold xh yh xl yl. unfold tl, sl. ring. }
  assert (Hvl : Rabs vl <= u * Rabs (sh + c)).
  { unfold vl, vh. rewrite Rabs_minus_sym. now apply sum_error_relative. }
  assert (Hw : Rabs (w - (tl + vl)) <= u * Rabs (tl + vl)) by now apply sum_error_relative.
  assert (A1 : Rabs (tl + vl) <= Rabs tl + Rabs vl) by apply Rabs_triang.
  assert (A2 : Rabs w <= Rabs (tl + vl) + Rabs (w - (tl + vl))).
  { replace w with ((tl + vl) + (w - (tl + vl))) at 1 by ring. apply Rabs_triang. }
  assert (A3 : Rabs (sh + c) <= Rabs T + Rabs tl + Rabs (c - (sl + th))).
  { rewrite ES. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). apply Rplus_le_compat_r.
    unfold Rminus. refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (A4 : Rabs T <= Rabs (sh + c) + Rabs tl + Rabs (c - (sl + th))).
  { replace T with ((sh + c) + tl + - (c - (sl + th))) at 1 by (rewrite ES; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rplus_le_compat_r, Rabs_triang. }
  assert (A5 : Rabs (sh + c) <= Rabs vh + Rabs vl).
  { replace (sh + c) with (vh + vl) by (unfold vl; ring). apply Rabs_triang. }
  assert (A6 : Rabs ((c - (sl + th)) + (w - (tl + vl))) <= Rabs (c - (sl + th)) + Rabs (w - (tl + vl)))
    by apply Rabs_triang.
  assert (Hu : u = / 9007199254740992) by apply u64_value.
  assert (P1 := Rabs_pos (sh + c)). assert (P2 := Rabs_pos vl). assert (P3 := Rabs_pos tl).
  clear ES. rewrite Hu in *. clear Hu.
  assert (F2 : Rabs w <= Rabs vh) by lra.
  destruct (sum_from_parts E1 (fast_two_sum_exact vh w Fvh Fw F2)) as [D E]. split; [exact D|].
  rewrite E. lra.
Qed.

(** Both of one sign, or one of them zero. *)
Lemma sum_of_one_sign :
  Rabs (xh + yh) = Rabs xh + Rabs yh -> xh + yh <> 0 ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - T) <= (3 * (u * u) + 13 * (u * (u * u))) * Rabs T.
Proof.
  intros HS H0. set (M := Rabs (xh + yh)) in *.
  assert (HM : 0 < M) by now apply Rabs_pos_lt.
  assert (Lx : Rabs xl <= u * Rabs xh) by now apply low_relative.
  assert (Ly : Rabs yl <= u * Rabs yh) by now apply low_relative.
  assert (Hl : Rabs (xl + yl) <= u * M).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite HS. lra. }
  assert (Hsl : Rabs sl <= u * M).
  { unfold sl, sh. rewrite Rabs_minus_sym. now apply sum_error_relative. }
  assert (Htl : Rabs tl <= u * Rabs (xl + yl)).
  { unfold tl, th. rewrite Rabs_minus_sym. now apply sum_error_relative. }
  assert (Hth : Rabs th <= Rabs (xl + yl) + Rabs tl).
  { replace th with ((xl + yl) + - tl) by (unfold tl; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Hst : Rabs (sl + th) <= Rabs sl + Rabs th) by apply Rabs_triang.
  assert (Hc : Rabs (c - (sl + th)) <= u * Rabs (sl + th)) by now apply sum_error_relative.
  assert (Hc' : Rabs c <= Rabs (sl + th) + Rabs (c - (sl + th))).
  { replace c with ((sl + th) + (c - (sl + th))) at 1 by ring. apply Rabs_triang. }
  assert (Hsh : M <= Rabs sh + Rabs sl).
  { unfold M. replace (xh + yh) with (sh + sl) by (unfold sl; ring). apply Rabs_triang. }
  assert (HT : M <= Rabs T + Rabs (xl + yl)).
  { unfold M. replace (xh + yh) with (T + - (xl + yl)) by (unfold T, value, xh, xl, yh, yl; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Hu : u = / 9007199254740992) by apply u64_value.
  apply (sum_without_cancellation M HM); rewrite Hu in *; lra.
Qed.

(** Of opposite signs, and [y] less than half of [x]. *)
Lemma sum_with_half_left :
  Rabs (xh + yh) <= Rabs xh -> Rabs yh < / 2 * Rabs xh ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - T) <= (3 * (u * u) + 13 * (u * (u * u))) * Rabs T.
Proof.
  intros HS Hy.
  assert (Hx0 : xh <> 0) by (intros E; rewrite E, Rabs_R0 in Hy; assert (P := Rabs_pos yh); lra).
  set (e := (mag radix2 xh - 1)%Z).
  assert (He : bpow radix2 e <= Rabs xh) by now apply bpow_mag_le.
  assert (He' : Rabs xh < bpow radix2 (e + 1)).
  { replace (e + 1)%Z with (mag radix2 xh : Z) by (unfold e; ring). apply bpow_mag_gt. }
  assert (Hemin : (-1074 <= e)%Z).
  { assert (M : multiple (-1074) xh) by (apply format_is_multiple; [exact Fxh|left; lia]).
    assert (G := multiple_abs_ge _ _ M Hx0).
    assert (L : bpow radix2 (-1074) < bpow radix2 (e + 1)) by lra. apply lt_bpow in L. lia. }
  set (B := bpow radix2 e) in *. assert (HB : 0 < B) by apply bpow_gt_0.
  assert (Eb : forall k, bpow radix2 (e + k) = B * bpow radix2 k) by (intros k; apply bpow_plus).
  assert (E1 : bpow radix2 (e + 1) = 2 * B) by (rewrite Eb, Rmult_comm; reflexivity).
  assert (Lx : Rabs xl <= u * B).
  { assert (L := low_absolute x (e + 1) Dx ltac:(lia) He').
    replace (e + 1 - 54)%Z with (e + -53)%Z in L by ring. rewrite Eb in L.
    fold u64 in L. fold u in L. rewrite Rmult_comm. exact L. }
  assert (Ly : Rabs yl <= / 2 * (u * B)).
  { assert (L := low_absolute y e Dy Hemin). fold yh yl in L.
    replace (e - 54)%Z with (e + (-53 - 1))%Z in L by ring. rewrite Eb, <- half_bpow in L.
    fold u64 in L. fold u in L. specialize (L ltac:(fold B; lra)). lra. }
  assert (Hl : Rabs (xl + yl) <= 3 / 2 * (u * B)).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). lra. }
  assert (EuB : bpow radix2 (e - 53) = u * B).
  { unfold Zminus. rewrite Eb, Rmult_comm. reflexivity. }
  assert (Hup : bpow radix2 (e - 53) = 2 * bpow radix2 (e - 54)).
  { replace (e - 53)%Z with (1 + (e - 54))%Z by ring. rewrite bpow_plus. reflexivity. }
  assert (Hup2 : bpow radix2 (e - 52) = 2 * bpow radix2 (e - 53)).
  { replace (e - 52)%Z with (1 + (e - 53))%Z by ring. rewrite bpow_plus. reflexivity. }
  assert (Hup3 : bpow radix2 (e - 51) = 2 * bpow radix2 (e - 52)).
  { replace (e - 51)%Z with (1 + (e - 52))%Z by ring. rewrite bpow_plus. reflexivity. }
  assert (Euu : bpow radix2 (e - 106) = u * (u * B)).
  { replace (e - 106)%Z with (-53 + (e - 53))%Z by ring. rewrite bpow_plus, EuB. reflexivity. }
  assert (Hup4 : bpow radix2 (e - 105) = 2 * bpow radix2 (e - 106)).
  { replace (e - 105)%Z with (1 + (e - 106))%Z by ring. rewrite bpow_plus. reflexivity. }
  assert (Htl : Rabs tl <= u * (u * B)).
  { unfold tl, th. rewrite Rabs_minus_sym, <- Euu. replace (e - 106)%Z with (e - 52 - 54)%Z by ring.
    apply sum_error_absolute; [exact Fxl|exact Fyl|]. rewrite Hup2, EuB.
    assert (0 < u * B) by (rewrite <- EuB; apply bpow_gt_0). lra. }
  assert (HuB : 0 < u * B) by (rewrite <- EuB; apply bpow_gt_0).
  assert (Hth : Rabs th <= 3 / 2 * (u * B)).
  { destruct (Z_le_gt_dec (e - 54) (-1075)) as [Hk|Hk].
    - unfold th. rewrite sum_small_exact; [exact Hl|exact Fxl|exact Fyl|].
      apply (Rle_trans _ (bpow radix2 (e - 52))); [rewrite Hup2, EuB; lra|apply bpow_le; lia].
    - assert (F : format64 (3 / 2 * (u * B))).
      { replace (3 / 2 * (u * B)) with (IZR 3 * bpow radix2 (e - 54)) by (rewrite <- EuB, Hup; field).
        apply format_multiple; lia. }
      apply Rabs_le. apply Rabs_le_inv in Hl. unfold th. split.
      + rewrite <- (round64_exact _ F), <- round64_opp. apply round64_mono. lra.
      + rewrite <- (round64_exact _ F). apply round64_mono. lra. }
  assert (Hst : Rabs (sl + th) <= Rabs sl + Rabs th) by apply Rabs_triang.
  assert (Hc' : Rabs c <= Rabs (sl + th) + Rabs (c - (sl + th))).
  { replace c with ((sl + th) + (c - (sl + th))) at 1 by ring. apply Rabs_triang. }
  assert (Hsh : Rabs (xh + yh) <= Rabs sh + Rabs sl).
  { replace (xh + yh) with (sh + sl) by (unfold sl; ring). apply Rabs_triang. }
  assert (HT : Rabs (xh + yh) <= Rabs T + Rabs (xl + yl)).
  { replace (xh + yh) with (T + - (xl + yl)) by (unfold T, value, xh, xl, yh, yl; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Hhalf : Rabs xh <= Rabs (xh + yh) + Rabs yh).
  { replace xh with ((xh + yh) + - yh) at 1 by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Hu : u = / 9007199254740992) by apply u64_value.
  destruct (Rle_or_lt B (Rabs (xh + yh))) as [HBs|HBs].
  - assert (Hsl : Rabs sl <= u * B).
    { unfold sl, sh. rewrite Rabs_minus_sym, <- EuB. replace (e - 53)%Z with (e + 1 - 54)%Z by ring.
      apply sum_error_absolute; [exact Fxh|exact Fyh|]. lra. }
    assert (Hc : Rabs (c - (sl + th)) <= 2 * (u * (u * B))).
    { rewrite <- Euu, <- Hup4. replace (e - 105)%Z with (e - 51 - 54)%Z by ring.
      apply sum_error_absolute; [exact Fsl|exact Fth|]. rewrite Hup3, Hup2, EuB. lra. }
    apply (sum_without_cancellation B HB); rewrite Hu in *; lra.
  - assert (Hsl : Rabs sl <= / 2 * (u * B)).
    { unfold sl, sh. rewrite Rabs_minus_sym, <- EuB, Hup.
      apply (Rle_trans _ (bpow radix2 (e - 54))); [|lra].
      apply sum_error_absolute; [exact Fxh|exact Fyh|]. fold B. lra. }
    assert (Hc : Rabs (c - (sl + th)) <= u * (u * B)).
    { rewrite <- Euu. replace (e - 106)%Z with (e - 52 - 54)%Z by ring.
      apply sum_error_absolute; [exact Fsl|exact Fth|]. rewrite Hup2, EuB. lra. }
    apply (sum_without_cancellation (/ 2 * B)); rewrite Hu in *; lra.
Qed.

Lemma low_parts_pair : double_double (Dd th tl).
Proof.
  unfold double_double. simpl. repeat split; [exact Fth|exact Ftl|].
  replace (th + tl) with (xl + yl) by (unfold tl; ring). reflexivity.
Qed.

(** The high parts cancel: the sum is exact. *)
Lemma sum_of_opposite_high_parts :
  xh + yh = 0 -> double_double (dd_sum x y) /\ value (dd_sum x y) - T = 0.
Proof.
  intros H0.
  assert (Esh : sh = 0) by (unfold sh; rewrite H0; apply round64_exact, format64_0).
  assert (Esl : sl = 0) by (unfold sl; rewrite H0, Esh; ring).
  assert (Ec : c = th) by (unfold c; rewrite Esl, Rplus_0_l; now apply round64_exact).
  assert (Evh : vh = th) by (unfold vh; rewrite Esh, Ec, Rplus_0_l; now apply round64_exact).
  assert (Evl : vl = 0) by (unfold vl; rewrite Esh, Ec, Evh; ring).
  assert (Ew : w = tl) by (unfold w; rewrite Evl, Rplus_0_r; now apply round64_exact).
  destruct (sum_from_parts) as [D E].
  - unfold vl, vh. rewrite Esh. apply fast_two_sum_of_zero. exact Fc.
  - apply fast_two_sum_exact; [exact Fvh|exact Fw|]. rewrite Evh, Ew.
    assert (L := low_relative _ low_parts_pair). simpl in L. assert (P := Rabs_pos th).
    rewrite u64_value in L. lra.
  - split; [exact D|]. rewrite E, Ec, Esl, Ew, Evl. ring.
Qed.

(** Of opposite signs, and [y] at least half of [x] and at most [x]: the high parts are subtracted exactly. *)
Lemma sum_with_cancellation :
  (0 <= xh /\ yh <= 0) \/ (xh <= 0 /\ 0 <= yh) ->
  / 2 * Rabs xh <= Rabs yh <= Rabs xh -> xh + yh <> 0 ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - T) <= (3 * (u * u) + 13 * (u * (u * u))) * Rabs T.
Proof.
  intros Hsign Hy H0.
  assert (Hu : u = / 9007199254740992) by apply u64_value.
  assert (Hy0 : yh <> 0).
  { intros E. rewrite E, Rabs_R0 in Hy. assert (P := Rabs_pos xh).
    assert (Rabs xh = 0) by lra. apply H0. rewrite E, Rplus_0_r.
    destruct (Req_dec xh 0) as [Ex|Ex]; [exact Ex|]. apply Rabs_pos_lt in Ex. lra. }
  (* the unit in the last place of yh *)
  set (f := mag radix2 yh : Z).
  assert (Hf : bpow radix2 (f - 1) <= Rabs yh) by now apply bpow_mag_le.
  assert (Hf' : Rabs yh < bpow radix2 f) by apply bpow_mag_gt.
  assert (Hemin : (-1074 < f)%Z).
  { assert (M : multiple (-1074) yh) by (apply format_is_multiple; [exact Fyh|left; lia]).
    assert (G := multiple_abs_ge _ _ M Hy0).
    assert (L : bpow radix2 (-1074) < bpow radix2 f) by lra. now apply lt_bpow in L. }
  set (k := Z.max (f - 53) (-1074)). set (W := bpow radix2 k).
  assert (HW : 0 < W) by apply bpow_gt_0.
  assert (HfW : bpow radix2 (f - 53) <= W) by (apply bpow_le; unfold k; lia).
  assert (E53 : bpow radix2 (f - 53) = 2 * bpow radix2 (f - 54)).
  { replace (f - 53)%Z with (1 + (f - 54))%Z by ring. rewrite bpow_plus. reflexivity. }
  assert (Ly : Rabs yl <= / 2 * W).
  { assert (L := low_absolute y f Dy ltac:(lia) Hf'). fold yl in L. lra. }
  assert (Lx : Rabs xl <= W).
  { assert (L : Rabs xl <= bpow radix2 (f + 1 - 54)).
    { apply (low_absolute x (f + 1) Dx ltac:(lia)). fold xh.
      replace (f + 1)%Z with (1 + f)%Z by ring. rewrite bpow_plus. change (bpow radix2 1) with 2. lra. }
    replace (f + 1 - 54)%Z with (f - 53)%Z in L by ring. lra. }
  assert (Hl : Rabs (xl + yl) <= 3 / 2 * W).
  { refine (Rle_trans _ _ _ (Rabs_triang _ _) _). lra. }
  assert (Htl : Rabs tl <= u * Rabs (xl + yl)).
  { unfold tl, th. rewrite Rabs_minus_sym. now apply sum_error_relative. }
  assert (Hth : Rabs th <= Rabs (xl + yl) + Rabs tl).
  { replace th with ((xl + yl) + - tl) by (unfold tl; ring).
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
  assert (Hth' : Rabs th <= 8 / 5 * W) by (rewrite Hu in *; lra).
  (* the high parts *)
  assert (My : multiple k yh).
  { apply format_is_multiple; [exact Fyh|]. destruct (Z_le_gt_dec (f - 53) (-1074)); [left; unfold k; lia|right].
    refine (Rle_trans _ _ _ _ Hf). apply bpow_le. unfold k. lia. }
  assert (Mx : multiple k xh).
  { apply format_is_multiple; [exact Fxh|]. destruct (Z_le_gt_dec (f - 53) (-1074)); [left; unfold k; lia|right].
    apply (Rle_trans _ (Rabs yh)); [|lra]. refine (Rle_trans _ _ _ _ Hf). apply bpow_le. unfold k. lia. }
  assert (Fs : format64 (xh + yh)).
  { assert (St : forall a b, format64 a -> format64 b -> / 2 * b <= a -> a <= b -> format64 (a - b)).
    { intros a b Fa Fb Hab Hba. apply sterbenz; [apply FLT_exp_valid; exact prec53|apply FLT_exp_monotone| | |].
      - exact Fa.
      - exact Fb.
      - destruct Hsign; split; lra. }
    destruct Hsign as [[Sx Sy]|[Sx Sy]].
    - rewrite (Rabs_pos_eq xh Sx), (Rabs_left1 yh Sy) in Hy.
      replace (xh + yh) with (- ((- yh) - xh)) by ring. apply format64_opp.
      apply St; [now apply format64_opp|exact Fxh|lra|lra].
    - rewrite (Rabs_left1 xh Sx), (Rabs_pos_eq yh Sy) in Hy.
      replace (xh + yh) with (yh - (- xh)) by ring. apply St; [exact Fyh|now apply format64_opp|lra|lra]. }
  assert (Esh : sh = xh + yh) by now apply round64_exact.
  assert (Esl : sl = 0) by (unfold sl; rewrite Esh; ring).
  assert (Ec : c = th) by (unfold c; rewrite Esl, Rplus_0_l; now apply round64_exact).
  assert (Ms : multiple k sh) by (rewrite Esh; now apply multiple_plus).
  assert (Hsh : W <= Rabs sh) by (apply (multiple_abs_ge k); [exact Ms|rewrite Esh; exact H0]).
  set (S := sh + th).
  assert (ET : T = S + tl) by (unfold T, value, S, tl; fold xh xl yh yl; rewrite Esh; ring).
  (* the first fast sum *)
  assert (E1 : fast_two_sum sh c = (vh, vl)).
  { rewrite Ec. unfold vl, vh. rewrite Ec.
    destruct (Rle_or_lt (Rabs th) (Rabs sh)) as [Hcmp|Hcmp]; [now apply fast_two_sum_exact|].
    apply fast_two_sum_exact_if; [exact Fsh|exact Fth|].
    set (e := Z.max (k - 52) (-1074)).
    assert (Me : forall a, format64 a -> W <= Rabs a -> multiple e a).
    { intros a Fa Ha. apply format_is_multiple; [exact Fa|].
      destruct (Z_le_gt_dec (k - 52) (-1074)); [left; unfold e; lia|right].
      refine (Rle_trans _ _ _ _ Ha). apply bpow_le. unfold e. lia. }
    assert (H2W : 2 * W <= bpow radix2 (e + 53)).
    { replace (2 * W) with (bpow radix2 (1 + k)) by (rewrite bpow_plus; reflexivity).
      apply bpow_le. unfold e. lia. }
    assert (Msh := Me sh Fsh Hsh). assert (Mth := Me th Fth ltac:(lra)).
    destruct (Rle_or_lt (Rabs (sh + th)) (bpow radix2 (e + 53))) as [HS|HS].
    - rewrite round64_exact; [now replace (sh + th - sh) with th by ring|].
      apply (multiple_format e); [now apply multiple_plus|unfold e; lia|exact HS].
    - assert (Her := sum_error_relative sh th Fsh Fth).
      assert (A1 : Rabs (sh + th) <= Rabs sh + Rabs th) by apply Rabs_triang.
      assert (A2 : Rabs (sh + th) <= Rabs (round64 (sh + th)) + Rabs (round64 (sh + th) - (sh + th))).
      { replace (sh + th) with (round64 (sh + th) + - (round64 (sh + th) - (sh + th))) at 1 by ring.
        refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
      assert (A3 : Rabs (round64 (sh + th) - sh) <= Rabs (round64 (sh + th) - (sh + th)) + Rabs th).
      { replace (round64 (sh + th) - sh) with ((round64 (sh + th) - (sh + th)) + th) by ring.
        apply Rabs_triang. }
      rewrite u64_value in Her.
      apply (multiple_format e); [|unfold e; lia|lra].
      apply multiple_minus; [|exact Msh]. apply Me; [apply round64_format|lra]. }
  (* the unit in the last place of th *)
  set (h := mag radix2 th : Z). set (g := Z.max (h - 53) (-1074)).
  assert (Hth0 : th = 0 \/ (h <= k + 1)%Z).
  { destruct (Req_dec th 0) as [E|E]; [now left|right]. apply mag_le_bpow; [exact E|].
    replace (k + 1)%Z with (1 + k)%Z by ring. rewrite bpow_plus. change (bpow radix2 1) with 2. fold W. lra. }
  assert (Htlg : th = 0 \/ Rabs tl <= / 2 * bpow radix2 g).
  { destruct (Req_dec th 0) as [E|E]; [now left|right].
    assert (Hh : Rabs th < bpow radix2 h) by apply bpow_mag_gt.
    assert (M : multiple (-1074) th) by (apply format_is_multiple; [exact Fth|left; lia]).
    assert (G := multiple_abs_ge _ _ M E).
    assert (L : bpow radix2 (-1074) < bpow radix2 h) by lra. apply lt_bpow in L.
    refine (Rle_trans _ _ _ (low_absolute _ h low_parts_pair ltac:(lia) Hh) _).
    rewrite half_bpow. apply bpow_le. unfold g. lia. }
  assert (Htl0 : th = 0 -> tl = 0).
  { intros E. assert (L := low_relative _ low_parts_pair). simpl in L. rewrite E, Rabs_R0, Rmult_0_r in L.
    destruct (Req_dec tl 0) as [Et|Et]; [exact Et|]. apply Rabs_pos_lt in Et. lra. }
  assert (MS : th = 0 \/ multiple g S).
  { destruct Hth0 as [E|Hk]; [now left|].
    destruct (Req_dec th 0) as [E|E]; [now left|right]. apply multiple_plus.
    - apply (multiple_weaken g k); [unfold g, k in *; lia|exact Ms].
    - apply format_is_multiple; [exact Fth|].
      destruct (Z_le_gt_dec (h - 53) (-1074)); [left; unfold g; lia|right].
      assert (B := bpow_mag_le radix2 th E). fold h in B. refine (Rle_trans _ _ _ _ B).
      apply bpow_le. unfold g. lia. }
  assert (EvS : vh = round64 S) by (unfold vh, S; now rewrite Ec).
  assert (EvlS : vl = S - vh) by (unfold vl, S; now rewrite Ec).
  destruct (Rle_or_lt (Rabs S) (bpow radix2 (g + 53))) as [HS|HS].
  - (* the sum of the high parts and th is a number of the format: no error at all *)
    assert (FS : format64 S).
    { destruct MS as [E|MS]; [unfold S; rewrite E, Rplus_0_r; exact Fsh|].
      apply (multiple_format g); [exact MS|unfold g; lia|exact HS]. }
    assert (Ev : vh = S) by (rewrite EvS; now apply round64_exact).
    assert (Evl : vl = 0) by (rewrite EvlS, Ev; ring).
    assert (Ew : w = tl) by (unfold w; rewrite Evl, Rplus_0_r; now apply round64_exact).
    assert (E2 : fast_two_sum vh w = (round64 (vh + w), vh + w - round64 (vh + w))).
    { destruct (Req_dec S 0) as [ES|ES].
      - rewrite Ev, ES. now apply fast_two_sum_of_zero.
      - apply fast_two_sum_exact; [exact Fvh|exact Fw|]. rewrite Ev, Ew.
        destruct MS as [E|MS]; [rewrite (Htl0 E), Rabs_R0; apply Rabs_pos|].
        assert (G := multiple_abs_ge g S MS ES).
        destruct Htlg as [E|Htlg]; [rewrite (Htl0 E), Rabs_R0; apply Rabs_pos|].
        assert (P := bpow_gt_0 radix2 g). lra. }
    destruct (sum_from_parts E1 E2) as [D E]. split; [exact D|].
    rewrite E, Ec, Esl, Ew, Evl.
    replace (th - (0 + th) + (tl - (tl + 0))) with 0 by ring. rewrite Rabs_R0.
    apply Rmult_le_pos; [rewrite Hu; lra|apply Rabs_pos].
  - (* otherwise the sum is large *)
    assert (Hg : bpow radix2 g = 2 * u * (/ 2 * bpow radix2 (g + 53))).
    { rewrite bpow_plus. replace (bpow radix2 53) with 9007199254740992 by reflexivity. rewrite Hu. field. }
    assert (Htl' : Rabs tl <= / 2 * (u * Rabs S)).
    { destruct Htlg as [E|Htlg]; [rewrite (Htl0 E), Rabs_R0; assert (P := Rabs_pos S); rewrite Hu; lra|].
      rewrite Hu in *. lra. }
    assert (Hvl : Rabs vl <= u * Rabs S).
    { rewrite EvlS, EvS, Rabs_minus_sym. now apply sum_error_relative. }
    assert (Hw : Rabs (w - (tl + vl)) <= u * Rabs (tl + vl)) by now apply sum_error_relative.
    assert (A1 : Rabs (tl + vl) <= Rabs tl + Rabs vl) by apply Rabs_triang.
    assert (A2 : Rabs w <= Rabs (tl + vl) + Rabs (w - (tl + vl))).
    { replace w with ((tl + vl) + (w - (tl + vl))) at 1 by ring. apply Rabs_triang. }
    assert (A3 : Rabs S <= Rabs vh + Rabs vl).
    { replace S with (vh + vl) by (rewrite EvlS; ring). apply Rabs_triang. }
    assert (A4 : Rabs S <= Rabs T + Rabs tl).
    { replace S with (T + - tl) by (rewrite ET; ring).
      refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_Ropp. apply Rle_refl. }
    assert (P := Rabs_pos S).
    assert (F2 : Rabs w <= Rabs vh) by (rewrite Hu in *; lra).
    destruct (sum_from_parts E1 (fast_two_sum_exact vh w Fvh Fw F2)) as [D E]. split; [exact D|].
    rewrite E, Ec, Esl. replace (th - (0 + th) + (w - (tl + vl))) with (w - (tl + vl)) by ring.
    rewrite Hu in *. lra.
Qed.

End Sum.

Lemma dd_sum_comm x y : double_double x -> double_double y -> dd_sum x y = dd_sum y x.
Proof.
  intros [Fxh [Fxl _]] [Fyh [Fyl _]]. unfold dd_sum.
  rewrite (two_sum_exact (hi x) (hi y)), (two_sum_exact (lo x) (lo y)), (two_sum_exact (hi y) (hi x)),
    (two_sum_exact (lo y) (lo x)) by assumption.
  now rewrite (Rplus_comm (hi y)), (Rplus_comm (lo y)).
Qed.

Lemma dd_sum_error_ordered x y :
  double_double x -> double_double y -> Rabs (hi y) <= Rabs (hi x) ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - (value x + value y))
    <= (3 * (u64 * u64) + 13 * (u64 * (u64 * u64))) * Rabs (value x + value y).
Proof.
  intros Dx Dy H. destruct (Req_dec (hi x + hi y) 0) as [E0|E0].
  { destruct (sum_of_opposite_high_parts x y Dx Dy E0) as [D E]. split; [exact D|].
    rewrite E, Rabs_R0. apply Rmult_le_pos; [rewrite u64_value; lra|apply Rabs_pos]. }
  destruct (Rle_or_lt 0 (hi x)) as [Sx|Sx]; destruct (Rle_or_lt 0 (hi y)) as [Sy|Sy].
  1: { apply sum_of_one_sign; [exact Dx|exact Dy| |exact E0]. rewrite !Rabs_pos_eq; lra. }
  3: { apply sum_of_one_sign; [exact Dx|exact Dy| |exact E0]. rewrite !Rabs_left1; lra. }
  all: destruct (Rlt_or_le (Rabs (hi y)) (/ 2 * Rabs (hi x))) as [Hh|Hh];
    [apply sum_with_half_left; [exact Dx|exact Dy| |exact Hh]
    |apply sum_with_cancellation; [exact Dx|exact Dy|lra|lra|exact E0]].
  - rewrite (Rabs_pos_eq (hi x)), (Rabs_left1 (hi y)) in H by lra. rewrite !Rabs_pos_eq; lra.
  - rewrite (Rabs_left1 (hi x)), (Rabs_pos_eq (hi y)) in H by lra. rewrite !Rabs_left1; lra.
Qed.

(** [sum] is within [3 u^2 + 13 u^3], and its result is a double-double. *)
Theorem dd_sum_error x y :
  double_double x -> double_double y ->
  double_double (dd_sum x y) /\
  Rabs (value (dd_sum x y) - (value x + value y))
    <= (3 * (u64 * u64) + 13 * (u64 * (u64 * u64))) * Rabs (value x + value y).
Proof.
  intros Dx Dy. destruct (Rle_or_lt (Rabs (hi y)) (Rabs (hi x))) as [H|H].
  - now apply dd_sum_error_ordered.
  - rewrite (dd_sum_comm x y Dx Dy), (Rplus_comm (value x)). apply dd_sum_error_ordered; [exact Dy|exact Dx|lra].
Qed.

(** * The difference: [self + -other] *)

Definition dd_neg (a : dd) : dd := Dd (- hi a) (- lo a).
Definition dd_difference (x y : dd) : dd := dd_sum x (dd_neg y).

Lemma double_double_neg a : double_double a -> double_double (dd_neg a) /\ value (dd_neg a) = - value a.
Proof.
  intros [Fh [Fl E]]. unfold double_double, value, dd_neg. simpl. repeat split.
  - now apply format64_opp.
  - now apply format64_opp.
  - replace (- hi a + - lo a) with (- (hi a + lo a)) by ring. rewrite round64_opp. now rewrite <- E.
  - ring.
Qed.

Theorem dd_difference_error x y :
  double_double x -> double_double y ->
  double_double (dd_difference x y) /\
  Rabs (value (dd_difference x y) - (value x - value y))
    <= (3 * (u64 * u64) + 13 * (u64 * (u64 * u64))) * Rabs (value x - value y).
Proof.
  intros Dx Dy. destruct (double_double_neg y Dy) as [Dn Vn].
  assert (H := dd_sum_error x (dd_neg y) Dx Dn). rewrite Vn in H. exact H.
Qed.
