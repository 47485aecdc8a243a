(* `sus-u/1`: Philox4x32-10 and the layout `coord4`, as the module `sus::uniform` computes them.

   - `anchors`: the five words of SPEC section 5, and known answers of the authors of Philox.
   - `coord4_injective`: two weights, or two streams of one weight, never share a counter and a word of its block.
   - `philox_injective`: for one key, no two counters give the same block.
   - `coord4_blocks_injective`: so no two groups of four weights share a block. *)

From Coq Require Import NArith List Lia Bool.
Import ListNotations.
Local Open Scope N_scope.

(* Words are numbers below 2^32. *)
Definition word_size : N := 2 ^ 32.
Definition wrap (x : N) : N := x mod word_size.

Record block := Block { w0 : N; w1 : N; w2 : N; w3 : N }.
Record key := Key { k0 : N; k1 : N }.

Definition multiplier0 : N := 0xd2511f53.
Definition multiplier1 : N := 0xcd9e8d57.
Definition weyl0 : N := 0x9e3779b9.
Definition weyl1 : N := 0xbb67ae85.

(* `round`: the words of a product are its high and its low half. *)
Definition round (c : block) (k : key) : block :=
  let product0 := multiplier0 * w0 c in
  let product1 := multiplier1 * w2 c in
  let high x := N.shiftr x 32 in
  Block (N.lxor (N.lxor (high product1) (w1 c)) (k0 k)) (wrap product1)
        (N.lxor (N.lxor (high product0) (w3 c)) (k1 k)) (wrap product0).

(* `philox4x32(counter, key, rounds)` *)
Fixpoint philox4x32 (counter : block) (k : key) (rounds : nat) : block :=
  match rounds with
  | O => counter
  | S rounds =>
    philox4x32 (round counter k) (Key (wrap (k0 k + weyl0)) (wrap (k1 k + weyl1))) rounds
  end.

Definition philox4x32_10 (counter : block) (k : key) : block := philox4x32 counter k 10.

(* `Uniforms::row`: the halves of the seed. *)
Definition key_of (seed : N) : key := Key (wrap seed) (wrap (N.shiftr seed 32)).

(* The bit of the stream that marks second words. *)
Definition second_bit : N := 2 ^ 31.
Definition stream_of (second : bool) (stream : N) : N := if second then N.lor stream second_bit else stream.

(* `Row::coord4`: the counter of key j of row (bh, i), each coordinate cut to 32 bits. *)
Definition coord4 (stream bh i j : N) : block := Block (wrap (j / 4)) (wrap i) (wrap bh) (wrap stream).

Definition pick (b : block) (n : N) : N :=
  match n with 0 => w0 b | 1 => w1 b | 2 => w2 b | _ => w3 b end.

(* `Uniforms::word` *)
Definition word (seed stream bh i j : N) : N :=
  pick (philox4x32_10 (coord4 stream bh i j) (key_of seed)) (j mod 4).

(* The anchors of SPEC section 5: seed 42, stream 0. *)
Theorem anchors :
  map (word 42 0 0 0) [0; 1; 2; 3] = [0x9ceaf053; 0x77f5493b; 0x12bf50ad; 0x5742b3d7] /\
  word 42 0 3 17 6 = 0x5bd24d90.
Proof. split; vm_compute; reflexivity. Qed.

(* The known answers that come with Random123. *)
Theorem known_answers :
  philox4x32_10 (Block 0 0 0 0) (Key 0 0) = Block 0x6627e8d5 0xe169c58d 0xbc57ac4c 0x9b00dbd8 /\
  philox4x32_10 (Block 0xffffffff 0xffffffff 0xffffffff 0xffffffff) (Key 0xffffffff 0xffffffff)
    = Block 0x408f276d 0x41c83b0e 0xa20bc7c6 0x6d5451fd /\
  philox4x32_10 (Block 0x243f6a88 0x85a308d3 0x13198a2e 0x03707344) (Key 0xa4093822 0x299f31d0)
    = Block 0xd16cfe09 0x94fdcceb 0x5001e420 0x24126ea1.
Proof. split; [|split]; vm_compute; reflexivity. Qed.

(* ---- The layout ---- *)

Lemma wrap_id x : x < word_size -> wrap x = x.
Proof. intros small; apply N.mod_small, small. Qed.

Lemma lor_second stream : stream < second_bit -> N.lor stream second_bit = stream + second_bit.
Proof.
  intros small. symmetry. rewrite <- N.lxor_lor.
  2: {
    apply N.bits_inj; intros n; rewrite N.land_spec, N.bits_0.
    destruct (N.eq_dec n 31) as [-> | other].
    - replace (N.testbit stream 31) with false; [reflexivity|].
      symmetry. destruct (N.eq_dec stream 0) as [-> | positive]; [apply N.bits_0|].
      apply N.bits_above_log2, N.log2_lt_pow2; [lia | exact small].
    - unfold second_bit. rewrite N.pow2_bits_false by congruence. apply andb_false_r. }
  apply N.add_nocarry_lxor.
  apply N.bits_inj; intros n; rewrite N.land_spec, N.bits_0.
  destruct (N.eq_dec n 31) as [-> | other].
  - replace (N.testbit stream 31) with false; [reflexivity|].
    symmetry. destruct (N.eq_dec stream 0) as [-> | positive]; [apply N.bits_0|].
    apply N.bits_above_log2, N.log2_lt_pow2; [lia | exact small].
  - unfold second_bit. rewrite N.pow2_bits_false by congruence. apply andb_false_r.
Qed.

Lemma stream_of_bound second stream : stream < second_bit -> stream_of second stream < word_size.
Proof.
  intros small; destruct second; simpl; [rewrite lor_second by exact small|];
    unfold second_bit, word_size in *; lia.
Qed.

Lemma stream_of_injective second second' stream stream' :
  stream < second_bit -> stream' < second_bit ->
  stream_of second stream = stream_of second' stream' -> second = second' /\ stream = stream'.
Proof.
  intros small small'; destruct second, second'; simpl; rewrite ?lor_second by assumption; intros same; split;
    try reflexivity; lia.
Qed.

Theorem coord4_injective second second' stream stream' bh bh' i i' j j' :
  stream < 2 ^ 31 -> stream' < 2 ^ 31 -> bh < 2 ^ 32 -> bh' < 2 ^ 32 -> i < 2 ^ 32 -> i' < 2 ^ 32 ->
  j < 2 ^ 34 -> j' < 2 ^ 34 ->
  coord4 (stream_of second stream) bh i j = coord4 (stream_of second' stream') bh' i' j' ->
  j mod 4 = j' mod 4 ->
  (second, stream, bh, i, j) = (second', stream', bh', i', j').
Proof.
  intros s_lt s_lt' bh_lt bh_lt' i_lt i_lt' j_lt j_lt' same same_place.
  assert (block_lt : forall j, j < 2 ^ 34 -> j / 4 < word_size).
  { intros n n_lt; apply N.div_lt_upper_bound; [lia|]; unfold word_size; lia. }
  injection same as same_j same_i same_bh same_stream.
  rewrite !wrap_id in same_j by (apply block_lt; assumption).
  rewrite !wrap_id in same_i, same_bh by assumption.
  rewrite !wrap_id in same_stream by (apply stream_of_bound; assumption).
  destruct (stream_of_injective _ _ _ _ s_lt s_lt' same_stream) as [-> ->].
  assert (j = j') as ->.
  { rewrite (N.div_mod j 4), (N.div_mod j' 4) by lia. congruence. }
  congruence.
Qed.

(* `Grid::row`: heads of a batch are told apart, too. *)
Theorem bh_injective (heads b h b' h' : N) :
  h < heads -> h' < heads -> b * heads + h = b' * heads + h' -> (b, h) = (b', h').
Proof.
  intros h_lt h_lt' same.
  assert (b = b' /\ h = h') as [-> ->].
  { apply (N.div_mod_unique heads); lia. }
  reflexivity.
Qed.

(* ---- Every round can be undone ---- *)

Definition is_block (c : block) : Prop :=
  w0 c < word_size /\ w1 c < word_size /\ w2 c < word_size /\ w3 c < word_size.
Definition is_key (k : key) : Prop := k0 k < word_size /\ k1 k < word_size.

Lemma wrap_lt x : wrap x < word_size.
Proof. apply N.mod_lt; discriminate. Qed.

Lemma lxor_lt a b : a < word_size -> b < word_size -> N.lxor a b < word_size.
Proof.
  intros a_lt b_lt.
  assert (cut : forall x, x < word_size -> forall n, 32 <= n -> N.testbit x n = false).
  { intros x x_lt n n_ge. rewrite <- (N.mod_small x word_size) by exact x_lt.
    apply N.mod_pow2_bits_high, n_ge. }
  replace (N.lxor a b) with ((N.lxor a b) mod word_size); [apply N.mod_lt; discriminate|].
  apply N.bits_inj; intros n; destruct (N.lt_ge_cases n 32) as [low | high].
  - apply N.mod_pow2_bits_low, low.
  - rewrite N.lxor_spec, (cut a a_lt n high), (cut b b_lt n high). apply N.mod_pow2_bits_high, high.
Qed.

Lemma high_lt m x : m < word_size -> x < word_size -> N.shiftr (m * x) 32 < word_size.
Proof.
  intros m_lt x_lt; rewrite N.shiftr_div_pow2. apply N.div_lt_upper_bound; [discriminate|].
  fold word_size; unfold word_size in *; nia.
Qed.

Lemma round_block c k : is_block c -> is_key k -> is_block (round c k).
Proof.
  intros (c0 & c1 & c2 & c3) (key0 & key1).
  assert (m0 : multiplier0 < word_size) by reflexivity.
  assert (m1 : multiplier1 < word_size) by reflexivity.
  unfold is_block, round; cbn [w0 w1 w2 w3].
  split; [|split; [|split]]; try apply wrap_lt; apply lxor_lt, key0 || apply lxor_lt, key1;
    apply lxor_lt; try assumption; apply high_lt; assumption.
Qed.

(* The multipliers are odd: each has an inverse modulo 2^32. *)
Lemma multiplier_injective m inverse x y :
  (m * inverse) mod word_size = 1 -> x < word_size -> y < word_size ->
  wrap (m * x) = wrap (m * y) -> x = y.
Proof.
  unfold wrap; intros odd x_lt y_lt same.
  assert (undo : forall z, z < word_size -> (inverse * ((m * z) mod word_size)) mod word_size = z).
  { intros z z_lt.
    rewrite N.mul_mod_idemp_r, N.mul_assoc, (N.mul_comm inverse), <- N.mul_mod_idemp_l, odd, N.mul_1_l
      by discriminate.
    apply N.mod_small, z_lt. }
  rewrite <- (undo x x_lt), <- (undo y y_lt), same; reflexivity.
Qed.

Lemma lxor_cancel a b c d : N.lxor (N.lxor a b) c = N.lxor (N.lxor a d) c -> b = d.
Proof.
  intros same. assert (inner : N.lxor a b = N.lxor a d).
  { rewrite <- (N.lxor_0_r (N.lxor a b)), <- (N.lxor_0_r (N.lxor a d)), <- (N.lxor_nilpotent c),
      <- !N.lxor_assoc, same; reflexivity. }
  rewrite <- (N.lxor_0_l b), <- (N.lxor_0_l d), <- (N.lxor_nilpotent a), !N.lxor_assoc, inner; reflexivity.
Qed.

Lemma round_injective c c' k : is_block c -> is_block c' -> round c k = round c' k -> c = c'.
Proof.
  destruct c as [a0 a1 a2 a3], c' as [b0 b1 b2 b3]; unfold is_block; cbn [w0 w1 w2 w3].
  intros (? & ? & ? & ?) (? & ? & ? & ?) same.
  pose proof (f_equal w0 same) as same0; pose proof (f_equal w1 same) as same1.
  pose proof (f_equal w2 same) as same2; pose proof (f_equal w3 same) as same3.
  unfold round in same0, same1, same2, same3; cbn [w0 w1 w2 w3] in same0, same1, same2, same3.
  assert (a0 = b0) as ->.
  { apply (multiplier_injective multiplier0 0x991a7cdb); [vm_compute; reflexivity | assumption..]. }
  assert (a2 = b2) as ->.
  { apply (multiplier_injective multiplier1 0x6d7cae67); [vm_compute; reflexivity | assumption..]. }
  apply lxor_cancel in same0; apply lxor_cancel in same2; congruence.
Qed.

Lemma philox_injective_rounds rounds c c' k :
  is_block c -> is_block c' -> is_key k -> philox4x32 c k rounds = philox4x32 c' k rounds -> c = c'.
Proof.
  revert c c' k; induction rounds as [|rounds IH]; intros c c' k c_ok c_ok' k_ok same; [exact same|].
  apply (round_injective c c' k c_ok c_ok'), (IH _ _ (Key (wrap (k0 k + weyl0)) (wrap (k1 k + weyl1)))).
  - apply round_block; assumption.
  - apply round_block; assumption.
  - split; apply wrap_lt.
  - exact same.
Qed.

Theorem philox_injective c c' k :
  is_block c -> is_block c' -> is_key k -> philox4x32_10 c k = philox4x32_10 c' k -> c = c'.
Proof. apply philox_injective_rounds. Qed.

(* So the block of four words of a weight, and the weight's place in it, tell its stream and its coordinates. *)
Theorem coord4_blocks_injective seed second second' stream stream' bh bh' i i' j j' :
  stream < 2 ^ 31 -> stream' < 2 ^ 31 -> bh < 2 ^ 32 -> bh' < 2 ^ 32 -> i < 2 ^ 32 -> i' < 2 ^ 32 ->
  j < 2 ^ 34 -> j' < 2 ^ 34 ->
  philox4x32_10 (coord4 (stream_of second stream) bh i j) (key_of seed)
    = philox4x32_10 (coord4 (stream_of second' stream') bh' i' j') (key_of seed) ->
  j mod 4 = j' mod 4 ->
  (second, stream, bh, i, j) = (second', stream', bh', i', j').
Proof.
  intros s_lt s_lt' bh_lt bh_lt' i_lt i_lt' j_lt j_lt' same same_place.
  apply coord4_injective; try assumption.
  apply philox_injective with (key_of seed); try assumption;
    (split; [|split; [|split]]; apply wrap_lt) || (split; apply wrap_lt).
Qed.
