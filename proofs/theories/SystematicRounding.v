(** The cap of systematic sampling, in IEEE binary64 with every rounding of the code.

    The program is [systematic] of [Programs], with each operation rounded to nearest even in Flocq's FLT format of
    binary64. [systematic_cap_in_binary64]: a row keeps at most [ceil most] entries, as long as the keep
    probabilities as they are (rounded) sum to less than [ceil most + 1], and [most <= 2^20].
    [paper_systematic_cap_in_binary64] has that hypothesis proved for the rule of the paper,
    [q = min (1, c w)] computed in binary64 from weights that sum to at most [1 + 2^-22]. *)

From Coq Require Import Reals ZArith List Lia Lra.
From Flocq Require Import Core Relative.
From SusOracle Require Import Programs Sums Binary64.
Import ListNotations.

Open Scope R_scope.

(** The operations of [f64]: each exact result is rounded once; comparisons are exact. *)
Definition arithmetic64 : arithmetic R :=
  Arithmetic 0 1 (fun x y => round64 (x + y)) (fun x y => round64 (x - y))
    (fun x y => round64 (x * y)) (fun x y => round64 (x / y)) Rle_bool Rlt_bool Req_bool.

(** The row's uniform: a word of 32 bits over [2^32]. *)
Definition row_uniform (word : Z) : R := IZR word * bpow radix2 (-32).

(** * The loop *)

(** The number of entries kept outright. *)
Definition outright (q : list R) : nat := length (filter (fun x => Rle_bool 1 x) q).

(** The value of [next] after [k] entries: [start / 2^32 + k]. *)
Definition next_at (start k : Z) : R := IZR (start + k * 2 ^ 32) * bpow radix2 (-32).

Lemma next_at_eq start k : next_at start k = IZR start * bpow radix2 (-32) + IZR k.
Proof.
  unfold next_at. rewrite plus_IZR, mult_IZR, Rmult_plus_distr_r, Rmult_assoc. f_equal.
  replace (IZR (2 ^ 32) * bpow radix2 (-32)) with 1; [ring|].
  change (IZR (2 ^ 32)) with (bpow radix2 32). rewrite <- bpow_plus. reflexivity.
Qed.

Lemma start_pos start : (0 < start)%Z -> 0 < IZR start * bpow radix2 (-32).
Proof. intros H. apply Rmult_lt_0_compat; [now apply IZR_lt|apply bpow_gt_0]. Qed.

(** [next + 1] is exact. *)
Lemma next_step start k :
  (0 < start <= 2 ^ 32)%Z -> (0 <= k < 2 ^ 20)%Z ->
  round64 (next_at start k + 1) = next_at start (k + 1).
Proof.
  intros Hs Hk.
  replace (next_at start k + 1) with (next_at start (k + 1)).
  - apply round64_exact, format_multiple; lia.
  - rewrite !next_at_eq, plus_IZR. ring.
Qed.

(** An entry that is not kept outright is kept only while [next] is at most the limit. *)
Lemma loop_cap start most limit :
  (0 < start <= 2 ^ 32)%Z -> (most <= 2 ^ 20)%Z -> limit <= IZR most ->
  forall q n sum k, (0 <= k)%Z ->
  exists undecided : nat,
    length (systematic_loop arithmetic64 limit q n sum (next_at start k)) = (undecided + outright q)%nat
    /\ (undecided = 0%nat \/ (k + Z.of_nat undecided <= most)%Z).
Proof.
  intros Hs Hm Hl. induction q as [|x q IH]; intros n sum k Hk.
  - exists 0%nat. simpl. auto.
  - cbn [systematic_loop]. unfold outright. cbn [filter]. change (leb arithmetic64 (one arithmetic64) x)
      with (Rle_bool 1 x).
    destruct (Rle_bool 1 x) eqn:E1.
    + destruct (IH (S n) sum k Hk) as [d [Hd Hc]]. exists d. cbn [length]. rewrite Hd. unfold outright.
      split; [lia|exact Hc].
    + set (added := add arithmetic64 sum x).
      set (clipped := if ltb arithmetic64 limit added then limit else added).
      assert (Hclip : clipped <= limit).
      { unfold clipped. cbn [ltb arithmetic64]. destruct (Rlt_bool_spec limit added); lra. }
      destruct (ltb arithmetic64 (zero arithmetic64) x && leb arithmetic64 (next_at start k) clipped)%bool eqn:E2.
      * apply Bool.andb_true_iff in E2. destruct E2 as [_ E2]. cbn [leb arithmetic64] in E2.
        assert (Hn : next_at start k <= clipped) by (destruct (Rle_bool_spec (next_at start k) clipped); [lra|discriminate]).
        assert (Hkm : (k < most)%Z).
        { apply lt_IZR. rewrite next_at_eq in Hn. assert (P := start_pos start (proj1 Hs)). lra. }
        cbn [add one arithmetic64]. rewrite next_step by lia.
        destruct (IH (S n) clipped (k + 1)%Z) as [d [Hd Hc]]; [lia|].
        exists (S d). cbn [length]. rewrite Hd. unfold outright. split; [lia|right; lia].
      * destruct (IH (S n) clipped k Hk) as [d [Hd Hc]]. exists d. auto.
Qed.

(** * The count of the entries kept outright, and the limit *)

Lemma count_exact q a :
  (0 <= a)%Z -> (a + Z.of_nat (outright q) <= 2 ^ 52)%Z ->
  seq.foldl (fun n x => if Rle_bool 1 x then round64 (n + 1) else n) (IZR a) q
    = IZR (a + Z.of_nat (outright q)).
Proof.
  revert a. induction q as [|x q IH]; intros a Ha H; unfold outright in *; simpl in *.
  - f_equal. lia.
  - destruct (Rle_bool 1 x); simpl in H.
    + rewrite <- plus_IZR, round64_exact by (apply format_integer; lia). rewrite IH by lia. f_equal. simpl. lia.
    + apply IH; lia.
Qed.

Lemma outright_le_sum q : Forall (fun x => 0 <= x) q -> INR (outright q) <= sum q.
Proof.
  induction 1 as [|x q Hx _ IH]; unfold outright in *; simpl; [lra|].
  destruct (Rle_bool_spec 1 x); [|lra]. simpl length. rewrite S_INR. lra.
Qed.

(** * The cap *)

Theorem systematic_cap_in_binary64 (q : list R) (word : Z) (most : R) :
  (0 <= word < 2 ^ 32)%Z -> 0 <= most <= bpow radix2 20 ->
  Forall (fun x => 0 <= x) q -> sum q < IZR (Zceil most) + 1 ->
  (Z.of_nat (length (systematic arithmetic64 q (row_uniform word) most)) <= Zceil most)%Z.
Proof.
  intros Hw Hmost Hq Hsum.
  set (m := outright q).
  assert (Hm : (Z.of_nat m <= Zceil most)%Z).
  { assert (H := outright_le_sum q Hq). fold m in H. rewrite INR_IZR_INZ in H.
    assert (IZR (Z.of_nat m) < IZR (Zceil most + 1)) by (rewrite plus_IZR; lra).
    apply lt_IZR in H0. lia. }
  assert (Hc : (Zceil most <= 2 ^ 20)%Z).
  { rewrite <- (Zceil_IZR (2 ^ 20)). apply Zceil_le. change (IZR (2 ^ 20)) with (bpow radix2 20). lra. }
  unfold systematic.
  assert (Ecount : count_as_number arithmetic64 (fun x => leb arithmetic64 (one arithmetic64) x) q
    = IZR (Z.of_nat m)).
  { unfold count_as_number. apply (count_exact q 0); [lia|]. fold m. lia. }
  rewrite Ecount. cbn [sub zero one eqb arithmetic64].
  set (limit := round64 (most - IZR (Z.of_nat m))).
  assert (Hlimit : limit <= IZR (Zceil most - Z.of_nat m)).
  { unfold limit. rewrite <- (round64_exact (IZR (Zceil most - Z.of_nat m))).
    - apply round64_mono. rewrite minus_IZR. assert (U := Zceil_ub most). lra.
    - apply format_integer. lia. }
  set (start := if (word =? 0)%Z then (2 ^ 32)%Z else word).
  assert (Hstart : (0 < start <= 2 ^ 32)%Z).
  { unfold start. destruct (Z.eqb_spec word 0); lia. }
  assert (Efirst : (if Req_bool (row_uniform word) 0 then 1 else row_uniform word) = next_at start 0).
  { rewrite next_at_eq, Rplus_0_r. unfold start, row_uniform. assert (B := bpow_gt_0 radix2 (-32)).
    destruct (Z.eqb_spec word 0) as [->|Hn].
    - rewrite Rmult_0_l, Req_bool_true by reflexivity.
      change (IZR (2 ^ 32)) with (bpow radix2 32). rewrite <- bpow_plus. reflexivity.
    - rewrite Req_bool_false; [reflexivity|]. apply Rmult_integral_contrapositive_currified; [|lra].
      now apply IZR_neq. }
  rewrite Efirst.
  destruct (loop_cap start (Zceil most - Z.of_nat m) limit Hstart ltac:(lia) Hlimit q 0%nat 0 0%Z ltac:(lia))
    as [d [Hd Hc']].
  rewrite Hd. fold m. lia.
Qed.

(** * The rule of the paper *)

Lemma round64_le_u x : 0 <= x ->
  round64 x <= x * (1 + unit_nearest 53) + half_least (-1074).
Proof.
  intros Hx.
  destruct (rnd_any _ _ _ _ (nearest_is_a_rounding (-1074) 53 prec53 (fun x => negb (Z.even x))) x)
    as [d [e [Hd [He E]]]].
  change (round radix2 (FLT_exp (-1074) 53) (Znearest (fun x => negb (Z.even x))) x) with (round64 x) in E.
  rewrite E. assert (D := Rle_abs d). assert (D' := Rle_abs e).
  assert (x * (1 + d) <= x * (1 + unit_nearest 53)) by (apply Rmult_le_compat_l; lra). lra.
Qed.

(** [keep_probability(c, w)] in binary64: between 0 and [c w (1 + u)] plus the underflow term. *)
Lemma keep_probability_range c w : 0 <= c -> 0 <= w ->
  0 <= keep_probability arithmetic64 c w
    <= c * w * (1 + unit_nearest 53) + half_least (-1074).
Proof.
  intros Hc Hw. assert (P := Rmult_le_pos c w Hc Hw).
  assert (U := round64_le_u (c * w) P). assert (N := round64_nonneg (c * w) P).
  unfold keep_probability. cbn [leb zero mul ltb one arithmetic64].
  destruct (Rle_bool_spec w 0).
  - assert (0 <= unit_nearest 53) by apply bpow_ge_0. assert (0 <= half_least (-1074)) by apply bpow_ge_0.
    assert (0 <= c * w * (1 + unit_nearest 53)) by (apply Rmult_le_pos; lra). lra.
  - destruct (Rlt_bool_spec (round64 (c * w)) 1); lra.
Qed.

Lemma sum_keep_probabilities c ws : 0 <= c -> Forall (fun w => 0 <= w) ws ->
  sum (map (keep_probability arithmetic64 c) ws)
    <= c * sum ws * (1 + unit_nearest 53) + INR (length ws) * half_least (-1074).
Proof.
  intros Hc. induction 1 as [|w ws Hw _ IH]; [simpl; lra|].
  assert (H := keep_probability_range c w Hc Hw).
  cbn [map sum fold_right length] in *. rewrite S_INR.
  fold (sum (map (keep_probability arithmetic64 c) ws)). fold (sum ws). lra.
Qed.

Theorem paper_systematic_cap_in_binary64 (ws : list R) (word : Z) (c : R) :
  (0 <= word < 2 ^ 32)%Z -> 0 < c <= bpow radix2 20 ->
  Forall (fun w => 0 <= w) ws -> sum ws <= 1 + bpow radix2 (-22) ->
  INR (length ws) <= bpow radix2 64 ->
  (Z.of_nat (length (systematic arithmetic64 (map (keep_probability arithmetic64 c) ws) (row_uniform word) c))
    <= Zceil c)%Z.
Proof.
  intros Hw Hc Hws Hsum Hn. apply systematic_cap_in_binary64; [exact Hw|lra| |].
  - rewrite Forall_map. revert Hws. apply Forall_impl. intros w H.
    apply keep_probability_range; [lra|exact H].
  - assert (H := sum_keep_probabilities c ws ltac:(lra) Hws).
    assert (U := Zceil_ub c).
    assert (A : c * sum ws <= c * (1 + bpow radix2 (-22))) by (apply Rmult_le_compat_l; lra).
    assert (B : c * bpow radix2 (-22) <= / 4).
    { apply (Rle_trans _ (bpow radix2 20 * bpow radix2 (-22))).
      - apply Rmult_le_compat_r; [apply bpow_ge_0|lra].
      - rewrite <- bpow_plus. apply Rle_refl. }
    assert (S0 : 0 <= c * sum ws).
    { apply Rmult_le_pos; [lra|]. clear - Hws. induction Hws; simpl; lra. }
    assert (D : c * sum ws * unit_nearest 53 <= / 4).
    { apply (Rle_trans _ (bpow radix2 21 * bpow radix2 (-53))).
      - apply Rmult_le_compat; [exact S0|apply bpow_ge_0| |apply Rle_refl].
        assert (bpow radix2 21 = 2 * bpow radix2 20) by exact (bpow_plus radix2 1 20).
        assert (1 <= bpow radix2 20) by (apply (bpow_le radix2 0 20); lia). lra.
      - rewrite <- bpow_plus. apply (Rle_trans _ (bpow radix2 (-2))); [apply bpow_le; lia|apply Rle_refl]. }
    assert (F : INR (length ws) * half_least (-1074) <= / 4).
    { apply (Rle_trans _ (bpow radix2 64 * bpow radix2 (-1075))).
      - apply Rmult_le_compat; [apply pos_INR|apply bpow_ge_0|exact Hn|apply Rle_refl].
      - rewrite <- bpow_plus. apply (Rle_trans _ (bpow radix2 (-2))); [apply bpow_le; lia|apply Rle_refl]. }
    lra.
Qed.

(** * The calibrated rule

    [calibrated_lambda] returns a rate whose [expected_count], computed in binary64, is at most [c]. *)

Lemma expected_count_is_a_running_sum lambda ws :
  expected_count arithmetic64 lambda ws
    = running_sum round64 (map (keep_probability arithmetic64 lambda) ws).
Proof.
  unfold expected_count, running_sum. cbn [zero add arithmetic64]. generalize 0 as a.
  induction ws as [|w ws IH]; intros a; simpl; [reflexivity|]. apply IH.
Qed.

Lemma keep_probability_format lambda w : format64 (keep_probability arithmetic64 lambda w).
Proof.
  unfold keep_probability. cbn [leb zero mul ltb one arithmetic64].
  destruct (Rle_bool w 0); [apply generic_format_0|].
  destruct (Rlt_bool (round64 (lambda * w)) 1); [|apply (format_integer 1); reflexivity].
  apply generic_format_round; [apply FLT_exp_valid; exact prec53|apply valid_rnd_N].
Qed.

Theorem calibrated_systematic_cap_in_binary64 (ws : list R) (word : Z) (lambda c : R) :
  (0 <= word < 2 ^ 32)%Z -> 0 < c <= bpow radix2 20 -> 0 <= lambda ->
  Forall (fun w => 0 <= w) ws -> INR (length ws) <= bpow radix2 31 ->
  expected_count arithmetic64 lambda ws <= c ->
  (Z.of_nat (length (systematic arithmetic64 (map (keep_probability arithmetic64 lambda) ws) (row_uniform word) c))
    <= Zceil c)%Z.
Proof.
  intros Hw Hc Hl Hws Hn Hcount. rewrite expected_count_is_a_running_sum in Hcount.
  set (q := map (keep_probability arithmetic64 lambda) ws) in *.
  assert (Hq : Forall (fun x => 0 <= x) q).
  { unfold q. rewrite Forall_map. revert Hws. apply Forall_impl. intros w H.
    now apply keep_probability_range. }
  apply systematic_cap_in_binary64; [exact Hw|lra|exact Hq|].
  assert (Hlen : INR (length q) <= bpow radix2 31) by (unfold q; now rewrite map_length).
  assert (Hlen' : INR (length q - 1) <= bpow radix2 31)
    by (refine (Rle_trans _ _ _ _ Hlen); apply le_INR; lia).
  assert (Hnu : INR (length q - 1) * unit_nearest 53 <= bpow radix2 (-22)).
  { apply (Rle_trans _ (bpow radix2 31 * bpow radix2 (-53))).
    - apply Rmult_le_compat_r; [apply bpow_ge_0|exact Hlen'].
    - rewrite <- bpow_plus. apply Rle_refl. }
  assert (B22 : bpow radix2 (-22) = / 4194304) by reflexivity.
  assert (P0 : 0 <= INR (length q - 1) * unit_nearest 53)
    by (apply Rmult_le_pos; [apply pos_INR|apply bpow_ge_0]).
  assert (Hformat : Forall format64 q).
  { unfold q. rewrite Forall_map. apply Forall_forall. intros w _. apply keep_probability_format. }
  assert (E := flt_running_sum (-1074) 53 (fun x => negb (Z.even x)) prec53 q Hformat ltac:(lra)).
  change (running_sum (round radix2 (FLT_exp (-1074) 53) (Znearest (fun x => negb (Z.even x)))) q)
    with (running_sum round64 q) in E.
  assert (Eabs : sum_abs q = sum q).
  { clear - Hq. unfold sum_abs. induction Hq as [|x q Hx _ IH]; simpl; [reflexivity|].
    rewrite IH, Rabs_pos_eq by exact Hx. reflexivity. }
  rewrite Eabs in E.
  assert (G : gamma (unit_nearest 53) (length q - 1) <= / 4194303).
  { unfold gamma. set (nu := INR (length q - 1) * unit_nearest 53) in *.
    apply (Rmult_le_reg_r (1 - nu)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
  assert (S0 : 0 <= sum q) by (clear - Hq; induction Hq; simpl; lra).
  assert (GS : gamma (unit_nearest 53) (length q - 1) * sum q <= / 4194303 * sum q)
    by (apply Rmult_le_compat_r; assumption).
  assert (A := Rle_abs (- (running_sum round64 q - sum q))). rewrite Rabs_Ropp in A.
  assert (B20 : bpow radix2 20 = 1048576) by reflexivity.
  assert (U := Zceil_ub c). lra.
Qed.
