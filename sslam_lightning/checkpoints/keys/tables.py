"""The configuration keys of other projects' checkpoints, one table for each importer; ``config_keys.py`` has the rules."""

from __future__ import annotations

from collections.abc import Mapping

from sslam_lightning.checkpoints.keys.config import HONORED, NO_EFFECT, KeyTable, Only, Purpose, Same

_LEARNING: tuple[Purpose, ...] = ("init_from", "training")  # what gradients flow through matters


def _table(*parts: KeyTable, honored: str = "", no_effect: str = "", **refused: Only) -> KeyTable:
    """A table of other tables, of names separated by blanks, and of refused keys. No key may be on two lists."""
    named = (dict.fromkeys(honored.split(), HONORED), dict.fromkeys(no_effect.split(), NO_EFFECT))
    rules = [item for part in (*parts, *named, refused) for item in part.items()]
    assert len(dict(rules)) == len(rules), "a key is on two lists"
    return dict(rules)


def _under(prefix: str, table: KeyTable) -> KeyTable:
    """The table of a section inside another."""
    return {f"{prefix}.{name}": rule for name, rule in table.items()}


# EAT, SSLAM and data2vec 2.0 ------------------------------------------------------------------------------------------

_DECODER = _table(
    honored="decoder_dim decoder_groups decoder_kernel decoder_layers input_dropout decoder_residual",
    no_effect="final_layer_norm",  # stands in a published recipe; the public code does not know it
    add_positions_masked=Only((False,), ("training",)),
    add_positions_all=Only((False,), ("training",)),
)
_DECODER_2D = _table(_DECODER, no_effect="projection_layers projection_ratio")  # it always has one linear layer
_DECODER_1D = _table(_DECODER, projection_layers=Only((1, 2)), projection_ratio=Only((2,)))

_MODALITY = _table(
    honored="prenet_depth mask_noise_std ema_local_encoder use_alibi_encoder learned_alibi_scale "
    "learned_alibi_scale_per_head init_extra_token_zero",
    no_effect="type prenet_layerdrop prenet_dropout start_drop_path_rate end_drop_path_rate "
    "mask_prob inverse_mask mask_prob_adjust mask_length remove_masks mask_channel_length alibi_scale alibi_max_pos "
    "model_depth",
    num_extra_tokens=Only((0, 1)),
    mask_prob_min=Only((None,), ("training",)),
    mask_dropout=Only((0,), ("training",)),
    keep_masked_pct=Only((0,), ("training",)),
    local_grad_mult=Only((1,), _LEARNING),
    learned_alibi=Only((False,)),
    learned_alibi_scale_per_layer=Only((False,)),
    num_alibi_heads=Only((Same("num_heads"),)),
)
_IMAGE = _table(
    _MODALITY,
    _under("decoder", _DECODER_2D),
    honored="in_chans patch_size target_length",
    # What is put in the place of masked tokens is seen by convolutional positions alone.
    no_effect="encoder_zero_mask mask_channel_prob add_masks input_size max_length enc_dec_transformer mae_masking",
    embed_dim=Only((Same("embed_dim"),)),
    alibi_dims=Only((2,)),
    alibi_distance=Only(("manhattan",)),
    fixed_positions=Only((True,)),
    transformer_decoder=Only((False,)),
)
_AUDIO = _table(
    _MODALITY,
    _under("decoder", _DECODER_1D),
    honored="feature_encoder_spec conv_pos_width conv_pos_groups conv_pos_depth",
    encoder_zero_mask=Only((True,), ("training",)),
    mask_channel_prob=Only((0,), ("training",)),
    add_masks=Only((False,), ("training",)),
    extractor_mode=Only(("layer_norm",)),
    conv_pos_pre_ln=Only((False,)),
)
_TEXT = _table(
    _MODALITY,
    _under("decoder", _DECODER_1D),
    honored="max_source_positions dropout",
    no_effect="encoder_zero_mask mask_channel_prob",
    add_masks=Only((False,), ("training",)),
    learned_pos=Only((True,)),
    no_scale_embedding=Only((True,)),
    layernorm_embedding=Only((True,)),
    no_token_positional_embeddings=Only((False,)),
)

DATA2VEC2_KEYS = _table(
    _under("modalities.image", _IMAGE),
    _under("modalities.audio", _AUDIO),
    _under("modalities.text", _TEXT),
    honored="depth num_heads norm_eps embed_dim mlp_ratio layer_norm_first supported_modality ema_encoder_only",
    no_effect="loss_beta loss_scale start_drop_path_rate end_drop_path_rate encoder_dropout post_mlp_drop "
    "attention_dropout activation_dropout dropout_input layerdrop average_top_k_layers end_of_block_targets "
    "clone_batch layer_norm_target_layer batch_norm_target_layer instance_norm_target_layer instance_norm_targets "
    "layer_norm_targets ema_decay ema_same_dtype log_norms ema_end_decay ema_anneal_end_step max_update "
    "min_target_var min_pred_var mae_init seed skip_ema cls_loss recon_loss d2v_loss decoder_group "
    "utterance_level init_center_token_zero center_exp softmax_temperature_student softmax_temperature_teacher "
    "drop_path_rate",  # fine-tuning adds it
    norm_affine=Only((True,)),
    shared_decoder=Only((None,), ("training",)),
)
"""``cfg.model`` of a pre-trained EAT, SSLAM or data2vec 2.0 model."""

EAT_FINETUNING_KEYS = _table(
    honored="num_classes pretrained_model_args prediction_mode audio_mae esc50_eval spcv2_eval",
    no_effect="model_path no_pretrained_weights linear_classifier mixup cutmix label_smoothing drop_path_rate layer_decay "
    "mixup_prob mixup_switch_prob mixup_mode data encoder_dropout post_mlp_drop attention_dropout activation_dropout "
    "dropout_input layerdrop prenet_layerdrop prenet_dropout no_decay_blocks target_length specaug freqm timem mask_ratio "
    "norm_eps remove_alibi",  # pretrained_model_args says the last two
    use_fc_norm=Only((True,)),
)
"""``cfg.model`` of a fine-tuned EAT or SSLAM model; the pre-trained model's is in its ``pretrained_model_args``."""

_MASKS_FROM_THE_DATA = _table(
    no_effect="patch_size mask_prob mask_prob_adjust mask_length inverse_mask mask_dropout clone_batch "
    "feature_encoder_spec",
    expand_adjacent=Only((False,), ("training",)),
    non_overlapping=Only((False,), ("training",)),
)
_OF_IMAGES = _table(
    _under("precompute_mask_config", _MASKS_FROM_THE_DATA),
    honored="audio_mae target_length esc50_eval spcv2_eval",
    no_effect="data multi_data input_size local_cache_path key beit_transforms target_transform no_transform "
    "rebuild_batches subsample seed dataset_type h5_format flexible_mask AS2M_finetune spcv1_finetune "
    "roll_aug noise weights_file num_samples is_finetuning label_descriptors labels",
    downsr_16hz=Only((True,), ("inference",)),  # else the log-mels of every recording are those of its own rate
)
_OF_WAVEFORMS = _table(
    _under("precompute_mask_config", _MASKS_FROM_THE_DATA),
    honored="normalize",
    no_effect="data labels multi_corpus_keys multi_corpus_sampling_weights binarized_dataset enable_padding "
    "max_sample_size min_sample_size num_batch_buckets tpu text_compression_level rebuild_batches post_save_script "
    "subsample seed",
    sample_rate=Only((16000,)),
)
_OF_TEXT = _table(
    no_effect="data sample_break_mode tokens_per_sample mask_prob leave_unmasked_prob random_token_prob "
    "freq_weighted_replacement mask_whole_words mask_multiple_length mask_stdev shorten_method "
    "shorten_data_split_list seed include_target_tokens include_index skip_masking d2v2_multi"
)
TASK_KEYS: Mapping[str, KeyTable] = {
    "mae_image_pretraining": _OF_IMAGES,
    "mae_image_classification": _OF_IMAGES,
    "audio_pretraining": _OF_WAVEFORMS,
    "masked_lm": _OF_TEXT,
}
"""``cfg.task`` of these models by its ``_name``: what their data sets do with a clip."""

# MAE-AST --------------------------------------------------------------------------------------------------------------

MAE_AST_KEYS = _table(
    honored="ast_kernel_size_chan ast_kernel_size_time encoder_layers encoder_embed_dim encoder_ffn_embed_dim "
    "encoder_attention_heads layer_norm_first decoder_embed_dim decoder_layers",
    # feature_grad_mult scales a gradient that reaches no weight, conv_pos is about positions that are refused.
    no_effect="feature_grad_mult decoder_layerdrop dropout attention_dropout activation_dropout encoder_layerdrop "
    "dropout_input random_mask_prob mask_length mask_selection mask_other no_mask_overlap mask_min_space conv_pos "
    "conv_pos_groups checkpoint_activations max_token_length",
    ast_kernel_stride_chan=Only((Same("ast_kernel_size_chan"),)),
    ast_kernel_stride_time=Only((Same("ast_kernel_size_time"),)),
    activation_fn=Only(("gelu",)),
    enc_sine_pos=Only((True,)),
    enc_conv_pos=Only((False,)),
    dec_sine_pos=Only((True,), _LEARNING),  # fine-tuning may take the decoder too
    dec_conv_pos=Only((False,), _LEARNING),
    use_post_enc_proj=Only((False,)),
)
"""``cfg.model`` of a MAE-AST model."""

MAE_AST_TASK_KEYS = _table(
    honored="sample_rate feature_dim",
    # normalize and the frame rate are those of waveforms, which the model does not take; mask_spans is read nowhere.
    no_effect="data normalize enable_padding max_keep_size max_sample_size min_sample_size random_crop pad_audio "
    "feature_rate mask_spans mask_type",
    feature_type=Only(("fbank",)),
    deltas=Only((False,)),
)
"""``cfg.task`` of a MAE-AST model."""

MAE_AST_LOSS_KEYS = _table(no_effect="reconstruction_weight classification_weight")
"""``cfg.criterion`` of a MAE-AST model."""

# BAT ------------------------------------------------------------------------------------------------------------------

BAT_KEYS = _table(
    honored="sr n_fft hop_length n_mels time_frame_size patch_size dim depth num_heads mlp_ratio decoder_dim decoder_depth "
    "decoder_heads decoder_mlp_ratio task use_cls_in_head",
    no_effect="config device compile num_workers train_num_workers val_num_workers test_num_workers save_interval "
    "state_save_path save_model dataset_dir pretrained_path vit_size num_time_patches num_freq_patches "
    "num_temporal_patches patch_stride_ms batch_size train_batch_size val_batch_size test_batch_size val_frequency "
    "test_frequency optimization_steps grad_accumulation_steps clip_norm grad_clip_norm lr min_lr lr_warmup_steps "
    "lr_layer_decay weight_decay adam_beta1 adam_beta2 ema_warmup_steps ema_decay_start ema_decay_end mask_ratio num_views "
    "finetune use_asymmetric_loss label_smoothing lasso_weight dropout path_dropout_rate head_dropout augment use_mixup "
    "mixup_chance mixup_beta mixup_hard_label use_random_gain use_color_noise color_noise_chance use_time_roll use_tf_mask "
    "freq_mask_param time_mask_param tf_mask_repeats num_prototypes num_vqt frame_length frame_shift num_classes",
    f_min=Only((0,)),
    model_name=Only(("BAT",)),
    head=Only(("linear",)),
    head_norm=Only((True,)),
    frame_wise_task=Only((False,)),
)
"""``args`` of a BAT model, pre-trained or fine-tuned."""

# The Hugging Face layout of EAT ----------------------------------------------------------------------------------------

EAT_HUGGING_FACE_KEYS = _table(
    honored="model_type model_variant embed_dim depth num_heads patch_size in_chans mel_bins num_classes mlp_ratio "
    "norm_eps img_size id2label problem_type sslam_lightning",
    # Rates of training, the length of the table of positions, and what transformers writes of any model.
    no_effect="drop_rate attn_drop_rate activation_dropout post_mlp_drop start_drop_path_rate end_drop_path_rate "
    "max_length label2id architectures auto_map dtype torch_dtype transformers_version _name_or_path _commit_hash "
    "chunk_size_feed_forward is_encoder_decoder output_attentions output_hidden_states return_dict use_cache "
    "tie_word_embeddings torchscript use_bfloat16 _attn_implementation_autoset initializer_range",
    stride=Only((Same("patch_size"),)),
    qkv_bias=Only((True,)),
    norm_affine=Only((True,)),
    fixed_positions=Only((True,)),
    layer_norm_first=Only((False,)),
)
"""``config.json`` of a folder of model type ``eat``."""

# Hugging Face transformers --------------------------------------------------------------------------------------------

_EXTRACTOR = _table(
    honored="sampling_rate do_normalize feature_extractor_type",
    no_effect="padding_side padding_value return_attention_mask processor_class auto_map",  # no clip is padded by another
    feature_size=Only((1,)),
)
AST_EXTRACTOR_KEYS = _table(_EXTRACTOR, honored="num_mel_bins max_length mean std")
"""``preprocessor_config.json`` of an audio spectrogram transformer. Its class pads with zeros, whatever the file says."""
WAVEFORM_EXTRACTOR_KEYS = _EXTRACTOR
"""``preprocessor_config.json`` of a model of waveforms."""
