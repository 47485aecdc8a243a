(** IEEE binary64 with gradual underflow and without overflow: Flocq's FLT format, rounded to nearest even.

    [format64] is the set of the numbers, [round64] the rounding of each operation. *)

From Coq Require Import Reals ZArith Lia Lra.
From Flocq Require Import Core Plus_error.
From SusOracle Require Import Sums.

Open Scope R_scope.

Definition format64 : R -> Prop := generic_format radix2 (FLT_exp (-1074) 53).
Definition round64 (x : R) : R := round radix2 (FLT_exp (-1074) 53) ZnearestE x.

(** The unit roundoff. *)
Definition u64 : R := bpow radix2 (-53).

Lemma prec53 : Prec_gt_0 53. Proof. reflexivity. Qed.
#[global] Existing Instance prec53.

Theorem round64_is_a_rounding : rounding format64 round64 u64 (half_least (-1074)).
Proof. apply (nearest_is_a_rounding (-1074) 53 prec53 (fun x => negb (Z.even x))). Qed.

Lemma u64_value : u64 = / 9007199254740992.
Proof. reflexivity. Qed.

Lemma round64_format x : format64 (round64 x).
Proof. apply (rnd_format _ _ _ _ round64_is_a_rounding). Qed.

Lemma round64_exact x : format64 x -> round64 x = x.
Proof. apply (rnd_of_format _ _ _ _ round64_is_a_rounding). Qed.

Lemma round64_mono x y : x <= y -> round64 x <= round64 y.
Proof. intros H. apply round_le; [apply FLT_exp_valid; exact prec53|apply valid_rnd_N|exact H]. Qed.

Lemma round64_opp x : round64 (- x) = - round64 x.
Proof. apply round_NE_opp. Qed.

Lemma format64_opp x : format64 x -> format64 (- x).
Proof. apply generic_format_opp. Qed.

Lemma format64_0 : format64 0.
Proof. apply generic_format_0. Qed.

Lemma format64_bpow e : (-1074 <= e)%Z -> format64 (bpow radix2 e).
Proof. intros H. apply generic_format_bpow. unfold FLT_exp. lia. Qed.

Lemma round64_nonneg x : 0 <= x -> 0 <= round64 x.
Proof. intros H. rewrite <- (round64_exact 0) by apply format64_0. now apply round64_mono. Qed.

(** ** Multiples of a power of two *)

Definition multiple (e : Z) (x : R) : Prop := exists z, x = IZR z * bpow radix2 e.

Lemma format_multiple z e :
  (Z.abs z < 2 ^ 53)%Z -> (-1074 <= e)%Z -> format64 (IZR z * bpow radix2 e).
Proof.
  intros Hz He. apply generic_format_FLT. exists (Float radix2 z e); [reflexivity|exact Hz|exact He].
Qed.

Lemma format_integer z : (Z.abs z < 2 ^ 53)%Z -> format64 (IZR z).
Proof.
  intros Hz. rewrite <- (Rmult_1_r (IZR z)). change 1 with (bpow radix2 0). now apply format_multiple.
Qed.

(** A multiple of [2^e] of magnitude at most [2^(e+53)] is a number of the format. *)
Lemma multiple_format e x :
  multiple e x -> (-1074 <= e)%Z -> Rabs x <= bpow radix2 (e + 53) -> format64 x.
Proof.
  intros [z ->] He Hx.
  assert (Hz : (Z.abs z <= 2 ^ 53)%Z).
  { apply le_IZR. rewrite abs_IZR. apply (Rmult_le_reg_r (bpow radix2 e)); [apply bpow_gt_0|].
    rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 e)) in Hx by apply bpow_ge_0.
    change (IZR (2 ^ 53)) with (bpow radix2 53). rewrite <- bpow_plus, Z.add_comm. exact Hx. }
  destruct (Z.eq_dec (Z.abs z) (2 ^ 53)) as [E|E].
  - assert (F : format64 (bpow radix2 (53 + e))) by (apply format64_bpow; lia).
    rewrite bpow_plus in F. change (bpow radix2 53) with (IZR (2 ^ 53)) in F.
    destruct (Zabs_spec z) as [[_ S]|[_ S]]; rewrite S in E.
    + now rewrite E.
    + replace z with (- (2 ^ 53))%Z by lia. rewrite opp_IZR, Ropp_mult_distr_l_reverse.
      now apply format64_opp.
  - apply format_multiple; lia.
Qed.

Lemma multiple_plus e x y : multiple e x -> multiple e y -> multiple e (x + y).
Proof. intros [a ->] [b ->]. exists (a + b)%Z. rewrite plus_IZR. ring. Qed.

Lemma multiple_minus e x y : multiple e x -> multiple e y -> multiple e (x - y).
Proof. intros [a ->] [b ->]. exists (a - b)%Z. rewrite minus_IZR. ring. Qed.

Lemma multiple_weaken e f x : (e <= f)%Z -> multiple f x -> multiple e x.
Proof.
  intros H [z ->]. exists (z * 2 ^ (f - e))%Z. rewrite mult_IZR.
  change 2%Z with (radix_val radix2). rewrite IZR_Zpower by lia. rewrite Rmult_assoc, <- bpow_plus.
  do 2 f_equal. ring.
Qed.

(** A number of the format of magnitude at least [2^(e+52)] is a multiple of [2^e], and every number of [2^-1074]. *)
Lemma format_is_multiple e x :
  format64 x -> (e <= -1074)%Z \/ bpow radix2 (e + 52) <= Rabs x -> multiple e x.
Proof.
  intros F H. destruct (Req_dec x 0) as [->|Hx]; [exists 0%Z; ring|].
  apply (multiple_weaken e (cexp radix2 (FLT_exp (-1074) 53) x)).
  - unfold cexp, FLT_exp. destruct H as [H|H]; [lia|].
    assert (M := mag_ge_bpow radix2 x (e + 53)). replace (e + 53 - 1)%Z with (e + 52)%Z in M by ring.
    specialize (M H). lia.
  - exists (Ztrunc (scaled_mantissa radix2 (FLT_exp (-1074) 53) x)). exact F.
Qed.

Lemma multiple_abs_ge e x : multiple e x -> x <> 0 -> bpow radix2 e <= Rabs x.
Proof.
  intros [z ->] H. rewrite Rabs_mult, (Rabs_pos_eq (bpow radix2 e)) by apply bpow_ge_0.
  rewrite <- (Rmult_1_l (bpow radix2 e)) at 1. apply Rmult_le_compat_r; [apply bpow_ge_0|].
  rewrite <- abs_IZR. apply IZR_le. destruct (Z.eq_dec z 0) as [->|Hz]; [exfalso; apply H; ring|lia].
Qed.

(** ** The error of a sum *)

(** Exact where the sum is small. *)
Lemma sum_small_exact a b :
  format64 a -> format64 b -> Rabs (a + b) <= bpow radix2 (-1021) -> round64 (a + b) = a + b.
Proof.
  intros Fa Fb H. apply round64_exact. apply FLT_format_plus_small; [exact prec53|exact Fa|exact Fb|exact H].
Qed.

(** Half a unit in the last place of the numbers below [2^k]. *)
Lemma sum_error_absolute a b k :
  format64 a -> format64 b -> Rabs (a + b) <= bpow radix2 k ->
  Rabs (round64 (a + b) - (a + b)) <= bpow radix2 (k - 54).
Proof.
  intros Fa Fb H.
  assert (Z0 : forall x, format64 x -> Rabs (round64 x - x) <= bpow radix2 (k - 54)).
  { intros x Fx. rewrite round64_exact, Rminus_diag_eq, Rabs_R0 by auto. apply bpow_ge_0. }
  destruct (Z_le_gt_dec k (-1021)) as [Hk|Hk].
  - rewrite sum_small_exact, Rminus_diag_eq, Rabs_R0; auto; [apply bpow_ge_0|].
    refine (Rle_trans _ _ _ H _). now apply bpow_le.
  - destruct (Req_dec (a + b) 0) as [E0|E0]; [rewrite E0; apply Z0, format64_0|].
    destruct (Rle_lt_or_eq_dec _ _ H) as [L|E].
    + refine (Rle_trans _ _ _ (error_le_half_ulp radix2 (FLT_exp (-1074) 53) _ _) _).
      rewrite ulp_neq_0 by exact E0. rewrite half_bpow. apply bpow_le. unfold cexp, FLT_exp.
      assert (M := mag_le_bpow radix2 (a + b) k E0 L). lia.
    + apply Z0. assert (F : format64 (bpow radix2 k)) by (apply format64_bpow; lia).
      unfold Rabs in E. destruct (Rcase_abs (a + b)).
      * replace (a + b) with (- bpow radix2 k) by lra. now apply format64_opp.
      * now rewrite E.
Qed.

Lemma sum_error_relative a b :
  format64 a -> format64 b -> Rabs (round64 (a + b) - (a + b)) <= u64 * Rabs (a + b).
Proof.
  intros Fa Fb. destruct (rnd_plus _ _ _ _ round64_is_a_rounding a b Fa Fb) as [d [Hd E]].
  rewrite E. replace ((a + b) * (1 + d) - (a + b)) with (d * (a + b)) by ring.
  rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|exact Hd].
Qed.

(** The error relative to the rounded sum. *)
Lemma sum_error_relative_to_result a b :
  format64 a -> format64 b -> Rabs (round64 (a + b) - (a + b)) <= u64 * Rabs (round64 (a + b)).
Proof.
  intros Fa Fb.
  destruct (FLT_plus_error_N_round_ex radix2 (-1074) 53 (fun x => negb (Z.even x)) a b Fa Fb) as [d [Hd E]].
  change (round radix2 (FLT_exp (-1074) 53) (Znearest (fun x => negb (Z.even x))) (a + b))
    with (round64 (a + b)) in E.
  rewrite E at 2. replace (round64 (a + b) - round64 (a + b) * (1 + d)) with (- d * round64 (a + b)) by ring.
  rewrite Rabs_mult, Rabs_Ropp. apply Rmult_le_compat_r; [apply Rabs_pos|].
  refine (Rle_trans _ _ _ Hd _). unfold Relative.u_ro. rewrite half_bpow. unfold u64. apply Rle_refl.
Qed.

Lemma sum_error_format a b :
  format64 a -> format64 b -> format64 (round64 (a + b) - (a + b)).
Proof. intros Fa Fb. now apply plus_error; [apply FLT_exp_valid; exact prec53|apply FLT_exp_monotone| |]. Qed.
