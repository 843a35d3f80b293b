"""Keras 3's public names: other names of what is here, and what to use in place of the rest.

`scripts/keras_surface.py` writes the docs' table from it, and looks whether it is all of Keras's.
"""

from __future__ import annotations

import dis
import sys
from typing import Any

# Of each module the names that have no counterpart by the same name, with one here that is the same
# thing.
ALIASES: dict[str, dict[str, str]] = {
    "layers": {
        **{f"{kind}Pool{d}D": f"{long}Pooling{d}D" for d in (1, 2)
           for kind, long in (("Max", "Max"), ("Avg", "Average"), ("GlobalMax", "GlobalMax"),
                              ("GlobalAvg", "GlobalAverage"))},
        **{f"{kind}olution{d}D{end}": f"{kind}{d}D{end}" for d in (1, 2)
           for kind, end in (("Conv", ""), ("Conv", "Transpose"), ("SeparableConv", ""))},
        "InputLayer": "Input",
    },
    "optimizers": {}, "losses": {}, "metrics": {}, "callbacks": {}, "models": {},
    "schedules": {"LearningRateSchedule": "Schedule"},
}
_AUGMENT = "change images in a generator of batches, which fit takes"
_RECURRENT = "use Conv1D over steps, or windows of steps as columns and Dense"
_ATTENTION = "no layer of attention: Conv1D, pooling over steps and Dense are there"
_TEXT = "encode beforehand, as scikit-learn's TfidfVectorizer, OneHotEncoder and OrdinalEncoder do"
_VOLUME = "no layers of volumes: reshape to images, or take the slices as channels"
_PROGRAM = "no layers of other programs' code: compose layers of nbbn.layers"
_SERIAL = "use config() of the object and get of the module"

INSTEAD: dict[str, dict[str, str]] = {
    "layers": {
        **dict.fromkeys((
            "AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix",
            "Equalization", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
            "RandomColorJitter", "RandomContrast", "RandomCrop", "RandomElasticTransform",
            "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue",
            "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
            "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation",
            "RandomZoom", "Solarization"), _AUGMENT),
        **dict.fromkeys((
            "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "GRUCell", "LSTM",
            "LSTMCell", "Masking", "RNN", "SimpleRNN", "SimpleRNNCell", "StackedRNNCells"),
            _RECURRENT),
        **dict.fromkeys(("AdditiveAttention", "Attention", "GroupQueryAttention",
                         "MultiHeadAttention", "ReversibleEmbedding"), _ATTENTION),
        **dict.fromkeys(("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing",
                         "IntegerLookup", "StringLookup", "TextVectorization"), _TEXT),
        **dict.fromkeys((
            "AdaptiveAveragePooling3D", "AdaptiveMaxPooling3D", "AveragePooling3D", "AvgPool3D",
            "Conv3D", "Conv3DTranspose", "Convolution3D", "Convolution3DTranspose", "Cropping3D",
            "GlobalAveragePooling3D", "GlobalAvgPool3D", "GlobalMaxPool3D", "GlobalMaxPooling3D",
            "MaxPool3D", "MaxPooling3D", "SpatialDropout3D", "UpSampling3D", "ZeroPadding3D"),
            _VOLUME),
        **dict.fromkeys(("FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"),
                        _PROGRAM),
        **dict.fromkeys(("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D",
                         "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D"),
                        "give a pooling layer the pool_size that makes this size"),
        **dict.fromkeys(("CenterCrop", "Resizing", "MaxNumBoundingBoxes"),
                        "crop and resize images beforehand, with Pillow, say"),
        **dict.fromkeys(("MelSpectrogram", "STFTSpectrogram"),
                        "compute spectrograms beforehand, as scipy.signal.stft does"),
        **dict.fromkeys(("Pipeline", "Wrapper"), "put the layers one after the other"),
        "ActivityRegularization": "regularise weights: kernel_regularizer",
        "AlphaDropout": "use Dropout", "GaussianDropout": "use GaussianNoise, or Dropout",
        "EinsumDense": "use Dense, which works along the last axis of any rows",
        "Identity": 'use Activation("linear")',
        "InputSpec": "layers check their rows by themselves",
        "RMSNormalization": "use LayerNormalization",
        "SpectralNormalization": "use a regulariser or a constraint of the kernel",
        "TimeDistributed": "Dense works along the last axis of any rows as it is",
        "UnitNormalization": "use LayerNormalization, or utils.normalize beforehand",
        "deserialize": "use layer_from_config", "serialize": "use config() of the layer",
    },
    "losses": {
        "CTC": "no loss of sequences of other lengths", "ctc": "no loss of such sequences",
        "Circle": "use a pair of NumPy functions as the loss: value and gradient",
        "circle": "use a pair of NumPy functions as the loss: value and gradient",
        "deserialize": "use losses.get", "serialize": _SERIAL,
    },
    "metrics": {
        "deserialize": "use metrics.get", "serialize": _SERIAL,
    },
    "optimizers": {
        **dict.fromkeys(("Adafactor", "Lamb", "Muon", "ScheduleFreeAdamW"), "use AdamW"),
        "LossScaleOptimizer": "float32 and float64 need no scaling of the loss",
        "MultiOptimizer": "freeze layers (trainable=False) and compile once for each part",
        "OptimizerMap": "freeze layers (trainable=False) and compile once for each part",
        "deserialize": "use optimizers.get", "serialize": _SERIAL,
    },
    "callbacks": {
        "BackupAndRestore": "use ModelCheckpoint and nbbn.load: a loaded model's fit goes on bit "
                            "for bit",
        "OrbaxCheckpoint": "use ModelCheckpoint",
        "ProgbarLogger": "fit(verbose=1) shows it",
        "RemoteMonitor": "use LambdaCallback(on_epoch_end=...) and urllib.request",
        "SwapEMAWeights": "no moving averages of weights: average get_weights() of epochs",
        "TensorBoard": "use CSVLogger, or the History that fit returns, shown in notebooks",
    },
    "schedules": {"deserialize": "use schedules.from_config", "serialize": "use config()"},
    "constraints": {"deserialize": "use constraints.get", "serialize": _SERIAL},
    "models": {},
    "utils": {
        "image_dataset_from_directory": "read images with Pillow, and give fit a generator",
        "text_dataset_from_directory": _TEXT,
        "audio_dataset_from_directory": "read sounds with scipy.io.wavfile",
        "timeseries_dataset_from_array": "use numpy.lib.stride_tricks.sliding_window_view",
        "get_file": "use urllib.request.urlretrieve",
        "load_img": "use PIL.Image.open", "save_img": "use PIL.Image.fromarray",
        "img_to_array": "use numpy.asarray", "array_to_img": "use PIL.Image.fromarray",
        "pad_sequences": "use numpy.pad",
        "model_to_dot": "use model.summary()", "FeatureSpace": _TEXT,
        "Progbar": "use rich.progress",
        "split_dataset": "use sklearn.model_selection.train_test_split",
    },
    "datasets": {
        **dict.fromkeys(("boston_housing", "california_housing"),
                        "use sklearn.datasets.fetch_california_housing"),
        "cifar100": "use datasets.cifar10, or sklearn.datasets.fetch_openml",
        **dict.fromkeys(("imdb", "reuters"), "use sklearn.datasets.fetch_20newsgroups"),
    },
    "": {
        "preprocessing": "image generators: " + _AUGMENT + "; texts: " + _TEXT,
        "applications": "read a network's ONNX file: nbbn.interop.from_onnx(path)",
        "ops": "use NumPy on arrays, and layers of nbbn.layers on values",
        "data": "tf.data: give fit any iterable of batches, such as a generator",
        "mixed_precision": "float32, or float64 with dtype='float64' of the layers",
        "GradientTape": "give compile a loss, a pair of NumPy functions of your own included",
        "Variable": "a model's are in model.weights",
        "distribution": "use nbbn.distributed.fit",
        "wrappers": "use nbbn.SequentialClassifier and SequentialRegressor",
    },
}

# All of Keras's names that the table of the docs is about, of Keras 3.15.
KERAS: dict[str, str] = {
    "layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
        AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
        AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
        Bidirectional CategoryEncoding CenterCrop Concatenate
        ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose
        Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
        Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D
        Convolution3DTranspose Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D
        DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
        FlaxLayer GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
        GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
        GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
        GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
        Hashing Identity Input InputLayer InputSpec IntegerLookup JaxLayer LSTM LSTMCell Lambda
        Layer LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D
        MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp
        MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN
        RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
        RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
        RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
        RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector
        Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D
        SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell
        Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
        SpectralNormalization StackedRNNCells StringLookup Subtract TFSMLayer TextVectorization
        TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D add average concatenate deserialize dot
        maximum minimum multiply serialize subtract""",
    "losses": """
        BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy
        CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
        CosineSimilarity Dice Hinge Huber KLDivergence LogCosh Loss MeanAbsoluteError
        MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
        SparseCategoricalCrossentropy SquaredHinge Tversky binary_crossentropy
        binary_focal_crossentropy categorical_crossentropy categorical_focal_crossentropy
        categorical_generalized_cross_entropy categorical_hinge circle cosine_similarity ctc
        deserialize dice get hinge huber kl_divergence log_cosh mean_absolute_error
        mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson
        serialize sparse_categorical_crossentropy squared_hinge tversky""",
    "metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy
        CategoricalCrossentropy CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score
        FBetaScore FalseNegatives FalsePositives Hinge IoU KLDivergence LogCoshError Mean
        MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper MeanSquaredError
        MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson
        Precision PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError
        SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy
        SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum
        TopKCategoricalAccuracy TrueNegatives TruePositives binary_accuracy binary_crossentropy
        binary_focal_crossentropy categorical_accuracy categorical_crossentropy
        categorical_focal_crossentropy categorical_hinge concordance_correlation deserialize get
        hinge huber kl_divergence log_cosh mean_absolute_error mean_absolute_percentage_error
        mean_squared_error mean_squared_logarithmic_error pearson_correlation poisson serialize
        sparse_categorical_accuracy sparse_categorical_crossentropy
        sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy""",
    "optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer
        MultiOptimizer Muon Nadam Optimizer OptimizerMap RMSprop SGD ScheduleFreeAdamW deserialize
        get serialize""",
    "callbacks": """
        BackupAndRestore CSVLogger Callback CallbackList EarlyStopping History LambdaCallback
        LearningRateScheduler ModelCheckpoint OrbaxCheckpoint ProgbarLogger ReduceLROnPlateau
        RemoteMonitor SwapEMAWeights TensorBoard TerminateOnNaN""",
    "schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule
        PiecewiseConstantDecay PolynomialDecay deserialize serialize""",
    "constraints": """
        Constraint MaxNorm MinMaxNorm NonNeg UnitNorm deserialize get max_norm min_max_norm non_neg
        serialize unit_norm""",
    "models": "Model Sequential clone_model load_model model_from_json save_model",
}


def attribute(module: str, name: str) -> Any:
    """What another name in a module stands for; AttributeError with what to use instead.

    `from module import name` ends in an ImportError with the same words.
    """
    short = module.removeprefix("nbbn").removeprefix(".")
    here, alias = sys.modules[module], ALIASES.get(short, {}).get(name)
    if alias is not None and alias in vars(here):
        return vars(here)[alias]
    error: type[Exception] = AttributeError
    if _is_imported():
        error = ImportError
    text = f"module {module!r} has no attribute {name!r}"
    if name.startswith("__"):
        raise AttributeError(text)
    instead = INSTEAD.get(short, {}).get(name)
    raise error(f"{text}; {instead}" if instead else text)


def _is_imported() -> bool:
    """Whether a module's `__getattr__` was called by `from module import name`."""
    frame = sys._getframe(3)
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"
